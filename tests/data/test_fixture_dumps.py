"""The injected failure dumps: re-made byte for byte, readable, and showing what they promise."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from coordeval.coords import frame_named
from coordeval.parsers import parse
from coordeval.parsers.dialects import dialect_named
from coordeval.runs import iter_rollouts

FIXTURES = Path(__file__).parents[2] / "fixtures"


def _script():
    spec = importlib.util.spec_from_file_location("build_dumps", FIXTURES / "build_dumps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()


def _rollouts(name):
    return list(iter_rollouts(FIXTURES / "dumps" / f"{name}.jsonl", frame_named("coordexp")))


def _parsed(name):
    dialect = dialect_named("object-map" if name == "object-map" else "coordjson")
    return {rollout.id: parse(rollout.text, dialect) for rollout in _rollouts(name)}


def test_script_writes_the_stored_bytes(tmp_path):
    """Running the script again gives exactly the stored files, and no others."""
    written = SCRIPT.build(tmp_path)
    stored = sorted((FIXTURES / "dumps").glob("*.jsonl"))
    assert [path.name for path in sorted(written)] == [path.name for path in stored]
    for path in stored:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_readme_names_every_dump():
    """The table of fixtures mentions each dump."""
    readme = (FIXTURES / "README.md").read_text(encoding="utf-8")
    assert [name for name in SCRIPT.DUMPS if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", sorted(SCRIPT.DUMPS))
def test_every_dump_is_read_and_reconciles(name):
    """Ids are unique, and found records are the valid ones and the dropped ones, in every line."""
    rollouts = _rollouts(name)
    assert len({rollout.id for rollout in rollouts}) == len(rollouts) > 0
    for parsed in _parsed(name).values():
        assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())


def test_conforming_dump_is_flawless():
    """The baseline has neither drop nor issue, and as many objects as the ground truth."""
    parsed = _parsed("conforming")
    for rollout in _rollouts("conforming"):
        assert parsed[rollout.id].conforming
        assert parsed[rollout.id].objects_valid == len(rollout.gt)


def test_a_foreign_token_in_every_list_is_64_wrong_arities():
    """Sixty-four records, each with the ordinal in its list: all found, all wrong_arity."""
    for name, parsed in _parsed("cjk-slots").items():
        count = 16 if name == "ordinal-before-four" else 64
        assert parsed.dropped_by_reason == {"wrong_arity": count}, name
        assert {drop.detail for drop in parsed.drops} == {"foreign_token"}
        assert {drop.evidence for drop in parsed.drops} == {"第九"}
        assert {drop.slot for drop in parsed.drops} == {0}


def test_a_foreign_token_costs_one_record():
    """One record with a foreign token in slot k is dropped, with that slot; the others stay."""
    for name, parsed in _parsed("digit-slots").items():
        assert parsed.dropped_by_reason == {"wrong_arity": 1}, name
        assert parsed.objects_valid == 4
        assert parsed.drops[0].slot == int(name.split("-")[1])


def test_drifted_keys_are_unexpected():
    """As many records are dropped for unexpected keys as have drifted."""
    for name, parsed in _parsed("key-drift").items():
        key, _, count = name.partition("-last-")
        assert parsed.dropped_by_reason == {"unexpected_keys": int(count)}, name
        assert {drop.detail for drop in parsed.drops} == {key}


def test_identical_objects_are_32_and_a_cut():
    """The person stands 32 times among the readable records, and the cut record is truncated."""
    parsed = _parsed("identical-to-limit")["person-x32"]
    repeats = Counter((record.desc, record.values) for record in parsed.records)
    assert repeats[("person", (778, 354, 999, 999))] == 32
    assert parsed.dropped_by_reason == {"truncated_record": 1}
    assert "truncated" in parsed.issues


def test_truncation_never_costs_a_finished_record():
    """A cut keeps every record that was closed before it, and drops at most the one it cuts."""
    text = _rollouts("truncation")[-1].text
    first_end = text.index("}") + 1
    for name, parsed in _parsed("truncation").items():
        cut = int(name.removeprefix("cut-"))
        assert parsed.objects_valid >= (1 if cut >= first_end else 0), name
        assert set(parsed.dropped_by_reason) <= {"truncated_record"}, name
        assert sum(parsed.dropped_by_reason.values()) <= 1, name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unclosed-quote", "malformed_record"),
        ("missing-colon", "malformed_record"),
        ("missing-bracket", "wrong_arity"),
        ("nested", "wrong_arity"),
        ("extra-key", "unexpected_keys"),
        ("duplicate-key", "duplicate_keys"),
        ("missing-desc", "missing_desc"),
        ("blank-desc", "missing_desc"),
        ("number-desc", "missing_desc"),
        ("missing-geometry", "missing_geometry"),
        ("two-geometries", "multiple_geometry"),
        ("too-few", "wrong_arity"),
        ("too-many", "wrong_arity"),
        ("leading-zeros", "wrong_arity"),
        ("out-of-range", "coord_out_of_range"),
        ("inverted", "degenerate_box"),
        ("zero-width", "degenerate_box"),
    ],
)
def test_a_broken_record_is_one_drop_between_two_sound_ones(name, reason):
    """Each way to break a record gives its own reason and keeps both neighbours."""
    parsed = _parsed("broken-records")[name]
    assert parsed.dropped_by_reason == {reason: 1}
    assert [record.desc for record in parsed.objects] == ["kite", "bench"]


def test_wrapping_drops_nothing():
    """Prose, fences and missing containers are issues; no record is dropped for them."""
    for name, parsed in _parsed("wrapped").items():
        assert parsed.drops == [], name
        assert parsed.conforming == (name == "empty-list"), name
        if name not in {"prose-only", "nothing", "blank", "empty-list"}:
            assert parsed.objects_valid >= 1, name


def test_odd_descriptions_are_kept():
    """Whatever a description looks like, the record and its neighbour are valid."""
    for name, parsed in _parsed("odd-descriptions").items():
        assert parsed.conforming, name
        assert parsed.objects_valid == 2, name


def test_polygon_faults_have_their_reasons():
    """Odd and short lists are wrong_arity, a flat polygon is degenerate, sound ones are kept."""
    parsed = _parsed("polygons")
    assert parsed["odd-count"].dropped_by_reason == {"wrong_arity": 1}
    assert parsed["too-few"].dropped_by_reason == {"wrong_arity": 1}
    assert parsed["zero-area"].dropped_by_reason == {"degenerate_box": 1}
    for name in ("as-asked", "box-for-polygon", "line", "scene-0000"):
        assert parsed[name].conforming, name


def test_numbered_objects_keep_numeric_order():
    """Object 10 comes after object 9, however the text orders them."""
    for parsed in _parsed("object-map").values():
        assert [record.desc for record in parsed.objects] == [f"thing {k}" for k in range(12)]
