"""Costs of error types: closed forms, exactness against rewritten texts, sums, and no mutation."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.metrics.attribution.attribution import attribute
from coordeval.metrics.attribution.candidates import build_candidates
from coordeval.metrics.protocols import PROTOCOLS
from coordeval.metrics.score import score_run
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[3] / "fixtures"
RECORDED = sorted((FIXTURES / "dumps").glob("*.jsonl")) + sorted((FIXTURES / "runs").glob("*-*"))
KEYS = ("f1/0.50/f1", "f1/mean/f1", "coco/AP")
CAT, DOG = (100, 100, 300, 300), (500, 500, 800, 800)
GT = [{"desc": "cat", "bbox_2d": list(CAT)}, {"desc": "dog", "bbox_2d": list(DOG)}]


def costs(found):
    """Short name -> cost."""
    return {cost.short_name: cost for cost in found.costs}


def nonzero(found, key="f1/0.50/f1"):
    """The error types that cost something in order."""
    return {cost.short_name for cost in found.costs if abs(cost.in_order[key] or 0) > 1e-12}


@pytest.fixture
def attributed(score, line, text):
    """Attribute one answer on an image with a cat and a dog."""

    def run(*records, gt=GT, whole=True, **more):
        answer = text(*records)
        return attribute(score([line(answer if whole else answer[:-2], gt, **more)]))

    return run


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_runs_start_at_their_score_and_end_at_one(path):
    """The baseline is the score, costs in order add up to the distance, the end is perfect."""
    result = score_run(open_run(path))
    found = attribute(result)
    for key in KEYS:
        assert found.baseline[key] == pytest.approx(result.metrics[key], abs=1e-12)
        if found.baseline[key] is None:
            continue
        total = sum(cost.in_order[key] for cost in found.costs)
        assert total == pytest.approx(found.distance[key], abs=1e-9)
        assert found.costs[-1].after[key] == pytest.approx(1.0, abs=1e-9)
        alone = sum(cost.alone[key] for cost in found.costs)
        assert alone + found.interaction[key] == pytest.approx(found.distance[key], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "faulty", "f1"),
    [
        ("Cls", [("cow", CAT), ("dog", DOG)], 1 / 2),
        ("Loc", [("cat", (100, 100, 300, 150)), ("dog", DOG)], 1 / 2),
        ("Both", [("cow", (100, 100, 300, 150)), ("cat", CAT), ("dog", DOG)], 4 / 5),
        ("Bkg", [("cat", (1, 1, 50, 50)), ("cat", CAT), ("dog", DOG)], 4 / 5),
        ("Unk", [("zebra", CAT), ("dog", DOG)], 1 / 2),
        ("Dupe", [("cat", CAT), ("cat", (100, 100, 300, 270)), ("dog", DOG)], 4 / 5),
        ("Exact", [("cat", CAT), ("cat", CAT), ("dog", DOG)], 4 / 5),
        ("Near", [("cat", CAT), ("cat", (100, 100, 300, 299)), ("dog", DOG)], 4 / 5),
        ("Miss", [("dog", DOG)], 2 / 3),
        ("Loop", [*[("cat", CAT)] * 5, ("dog", DOG)], 4 / 8),
    ],
)
def test_a_planted_error_is_charged_to_its_own_type(score, line, text, rec, name, faulty, f1):
    """One kind of error: its row explains the whole distance, no other row anything."""
    meta = {"categories": [{"id": k, "name": n} for k, n in enumerate(("cat", "dog", "cow"), 1)]}
    found = attribute(score([line(text(*[rec(*each) for each in faulty]), GT)], meta))
    assert found.baseline["f1/0.50/f1"] == pytest.approx(f1)
    assert nonzero(found) == {name}
    assert costs(found)[name].alone["f1/0.50/f1"] == pytest.approx(1 - f1)


def test_repairable_and_unrepairable_drops_are_told_apart(attributed, rec):
    """A drifted key is mended by the table; a replaced coordinate costs the object it stood for."""
    drifted = rec("cat", CAT).replace("bbox_2d", "bbox_3d")
    found = attributed(drifted, rec("dog", DOG))
    assert nonzero(found) == {"Drop/unexpected_keys"}
    assert costs(found)["Drop/unexpected_keys"].repairable == 1
    found = attributed(rec("cat", CAT).replace("<|coord_100|>", "85", 1), rec("dog", DOG))
    assert nonzero(found) == {"Lost"}
    assert costs(found)["Drop/wrong_arity"].repairable == 0


def test_a_cut_answer_costs_what_it_never_wrote(attributed, rec):
    """Objects missed in an answer that hit the token limit are charged to the cut."""
    found = attributed(rec("dog", DOG), whole=False, finish_reason="length")
    assert nonzero(found) == {"Cut"}
    found = attributed(rec("dog", DOG), error="out of memory")
    assert nonzero(found) == {"Engine"}


def test_loops_of_wrong_boxes_are_seen_where_tide_shows_nothing(score, line, text, rec):
    """Thirty copies of a box on background: TIDE's Dupe stays 0, the loop has its price."""
    looped = [rec("cat", (1, 1, 50, 50))] * 30
    found = attribute(score([line(text(*looped, rec("cat", CAT), rec("dog", DOG)), GT)]))
    assert found.tide.gain["Dupe"] == 0.0
    assert costs(found)["Loop"].in_order["f1/0.50/f1"] == pytest.approx(4 / 5 - 4 / 34)
    assert costs(found)["Loop"].in_order["coco/AP"] > 0


def test_a_fix_alone_equals_scoring_the_text_that_it_stands_for(score, line, text, rec):
    """Copies taken out, drops repaired: the oracle gives the score of the mended text, exactly."""
    near = (100, 100, 300, 299)
    dropped = rec("dog", (500, 500, 800, 700)).replace("bbox_2d", "bbox_d")
    wrong = rec("cat", (10, 10, 60, 60))
    written = [rec("cat", near), rec("cat", CAT), wrong, wrong, dropped, rec("cat", CAT)]
    found = costs(attribute(score([line(text(*written), GT)])))
    base = score([line(text(*written), GT)]).metrics
    mended = dropped.replace("bbox_d", "bbox_2d")
    for name, answer in {
        "Exact": [written[0], written[1], wrong, dropped],
        # The last one repeats a near copy exactly: it is an exact repeat, not a near one.
        "Near": [written[0], wrong, wrong, dropped, written[5]],
        "Drop/unexpected_keys": [*written[:4], mended, written[5]],
    }.items():
        after = score([line(text(*answer), GT)]).metrics
        for key in KEYS:
            expected = after[key] - base[key]
            assert found[name].alone[key] == pytest.approx(expected, abs=1e-12), (name, key)


def test_attribution_changes_nothing(score, line, text, rec):
    """Every array and table of the scored run is the same afterwards."""
    broken = rec("cat", CAT).replace("bbox_2d", "bbox_3d")
    answer = text(rec("cat", CAT), rec("cat", CAT), broken, rec("cow", DOG), *[broken] * 5)
    result = score([line(answer, GT), line("nothing", GT, id="b")])
    before = copy.deepcopy(
        (result.metrics, result.columns, result.scored, result.scores, result.loops)
    )
    attribute(result)
    after = (result.metrics, result.columns, result.scored, result.scores, result.loops)
    np.testing.assert_equal(_plain(after), _plain(before))


def _plain(value):
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def test_runs_without_ground_truth_or_without_anything(score, line, text, rec):
    """Nothing to find and something predicted: F1 has a distance, AP none; nothing at all: none."""
    found = attribute(score([line(text(rec("cat", CAT)), [])]))
    assert found.baseline == {"f1/0.50/f1": 0.0, "f1/mean/f1": 0.0, "coco/AP": None}
    assert found.costs[-1].after["f1/0.50/f1"] == 1.0
    assert all(cost.in_order["coco/AP"] is None for cost in found.costs)
    found = attribute(score([line('{"objects": []}', [])]))
    assert set(found.baseline.values()) == {None}
    assert json.dumps(found.to_json())


def test_crowd_regions_are_neither_cost_nor_gain(attributed, rec):
    """A prediction on a crowd region of its class is no error, and the region is not missed."""
    crowd = {"desc": "cat", "bbox_2d": [0, 0, 90, 90], "iscrowd": True}
    found = attributed(
        rec("cat", CAT), rec("dog", DOG), rec("cat", (10, 10, 50, 50)), gt=[*GT, crowd]
    )
    assert found.baseline["f1/0.50/f1"] == 1.0
    assert nonzero(found) == nonzero(found, "coco/AP") == set()


BOXES = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4)).map(
    lambda b: (b[0] * 100, b[1] * 100, (b[0] + b[2]) * 100, (b[1] + b[3]) * 100)
)
NAMED = st.tuples(st.sampled_from(["cat", "dog", "cow", "zebra"]), BOXES)
FAULT = st.sampled_from(["", "", "", "bbox_3d", "foreign", "nested"])


@settings(max_examples=60)
@given(data=st.data())
def test_any_run_reconciles(data, tmp_path_factory):
    """Whatever is written: the walk starts at the score, ends at 1, and adds up."""
    lines = []
    for number in range(data.draw(st.integers(1, 3))):
        gt = [
            {"desc": name, "bbox_2d": list(box), "iscrowd": data.draw(st.booleans())}
            for name, box in data.draw(st.lists(NAMED, max_size=4))
            if name != "zebra"
        ]
        written = data.draw(st.lists(st.tuples(NAMED, FAULT), max_size=9))
        records = [_broken(*named, fault) for named, fault in written]
        scores = data.draw(
            st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=len(records), max_size=len(records))
        )
        text = '{"objects": [' + ", ".join(records) + "]}"
        lines.append(
            {"id": str(number), "width": 1000, "height": 1000, "gt": gt, "text": text}
            | {"scores": scores}
        )
    path = tmp_path_factory.mktemp("any") / "run.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    result = score_run(open_run(path))
    found = attribute(result)
    for key in KEYS:
        base = result.metrics[key]
        if base is None:
            assert found.baseline[key] is None
            continue
        assert found.baseline[key] == pytest.approx(base, abs=1e-12)
        assert found.costs[-1].after[key] == pytest.approx(1.0, abs=1e-9)


def _broken(name, box, fault):
    inner = ", ".join(f"<|coord_{value}|>" for value in box)
    if fault == "foreign":
        inner = "第九, " + inner
    if fault == "nested":
        inner = f"[{inner}]"
    key = fault if fault.startswith("bbox") else "bbox_2d"
    return f'{{"desc": "{name}", "{key}": [{inner}]}}'


def test_repeats_are_those_of_the_protocol_that_scored(score, line, text, rec):
    """Names that the protocol takes for one make a repeat here as they do in the score."""
    lines = [line(text(rec("red car", CAT), rec("red_car", CAT)), GT)]
    for protocol, repeated in (("coordeval", 0), ("coordexp", 1)):
        result = score(lines, protocol=PROTOCOLS[protocol])
        assert result.metrics["dup/exact_objects"] == repeated
        candidates = build_candidates(result)
        assert int(candidates.repeats(candidates.valid)[0].sum()) == repeated
