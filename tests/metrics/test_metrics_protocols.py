"""Named protocols on examples computed by hand."""

from __future__ import annotations

import pytest

from coordeval.errors import ConfigError
from coordeval.metrics.protocols import PROTOCOLS, protocol_named, protocol_table_markdown


def box(desc, *values):
    """One ground-truth box in pixels."""
    return {"desc": desc, "bbox_2d": list(values)}


def test_coordexp_counts(score, line, rec, text):
    """Greedy whatever the class, the name judged afterwards, absent classes ignored."""
    lines = [
        line(
            text(
                rec("dog", (0, 0, 99, 100)),
                rec("cat", (0, 0, 90, 100)),
                rec("ufo", (700, 700, 800, 800)),
            ),
            [box("cat", 0, 0, 100, 100), box("dog", 500, 500, 600, 600)],
        ),
        line(text(), [], id="empty"),
    ]
    metrics = score(lines, protocol=protocol_named("coordexp")).metrics
    loc = [metrics[f"f1_loc/0.50/{name}"] for name in ("tp", "fp", "fn")]
    full = [metrics[f"f1/0.50/{name}"] for name in ("tp", "fp", "fn")]
    assert (loc, full) == ([1, 1, 1], [0, 2, 2])
    assert metrics["f1_loc/0.50/precision_macro"] == pytest.approx((0.5 + 1.0) / 2)
    assert metrics["f1_loc/0.50/f1_macro"] == pytest.approx((0.5 + 1.0) / 2)
    assert metrics["f1/0.50/f1"] == 0.0
    assert "f1/0.30/f1" in metrics
    assert "f1/mean/f1" not in metrics


def test_coordexp_calls_an_empty_denominator_one(score, line, text):
    """No prediction has precision 1 there, and null under the default protocol."""
    lines = [line(text(), [box("a", 0, 0, 9, 9)])]
    assert score(lines, protocol=protocol_named("coordexp")).metrics["f1/0.50/precision"] == 1.0
    assert score(lines).metrics["f1/0.50/precision"] is None


def test_coordexp_counts_wrong_predictions_on_images_without_ground_truth(score, line, rec, text):
    """Scope `annotated` ignores them image by image: nothing shifts onto the next image."""
    lines = [
        line(text(rec("cat", (500, 500, 600, 600))), [], id="empty"),
        line(text(rec("cat", (0, 0, 100, 100))), [box("cat", 0, 0, 100, 100)], id="full"),
    ]
    metrics = score(lines, protocol=protocol_named("coordexp")).metrics
    assert [metrics[f"f1/0.50/{name}"] for name in ("tp", "fp", "fn")] == [1, 0, 0]


def test_coordexp_treats_crowds_as_objects(score, line, rec, text):
    """A crowd region is found or missed like any other box."""
    lines = [line(text(), [box("a", 0, 0, 9, 9) | {"iscrowd": 1}])]
    assert score(lines, protocol=protocol_named("coordexp")).metrics["f1/0.50/fn"] == 1
    assert score(lines).metrics["f1/0.50/fn"] == 0


def test_rex_omni_forgives(score, line, rec, text):
    """Absent classes and repeats vanish, and a class never found does not lower the mean."""
    cat = rec("cat", (0, 0, 100, 100))
    lines = [
        line(
            text(cat, cat, rec("dog", (0, 0, 50, 50)), rec("cat", (800, 800, 900, 900))),
            [box("cat", 0, 0, 100, 100), box("bird", 300, 300, 400, 400)],
        ),
        line(text(cat), [box("dog", 0, 0, 100, 100)], id="b"),
    ]
    result = score(lines, protocol=protocol_named("rex-omni"), meta={"frame": "unit-999"})
    assert result.metrics["f1/0.50/precision"] == pytest.approx(0.5)
    assert result.metrics["f1/0.50/recall"] == pytest.approx(1.0)
    assert result.metrics["f1/0.50/f1"] == pytest.approx(2 / 3)
    assert result.metrics["parse/objects_found"] == 5
    plain = score(lines, meta={"frame": "unit-999"}).metrics["f1/0.50/f1"]
    assert plain == pytest.approx(2 / (2 + 4 + 2))
    assert result.reading["frame"] == "unit-999"
    verdicts = result.objects.query("role == 'pred'")["verdict"].tolist()
    assert verdicts == ["right", "removed", "removed", "wrong", "removed"]


def test_names_of_protocols():
    """Unknown names list the known ones; the table spells every protocol out."""
    with pytest.raises(ConfigError, match="coordeval, coordexp, rex-omni"):
        protocol_named("nope")
    table = protocol_table_markdown()
    assert all(f"`{name}`" in table for name in PROTOCOLS)
    assert table.count("\n") == len(PROTOCOLS["coordexp"].to_json()) + 1
