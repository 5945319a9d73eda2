"""Slot telemetry on disk: nothing lost by a kill, nothing doubled by a resume, stable types."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.engines.rewrite import drop_error_lines, restore_order
from coordeval.errors import DataError
from coordeval.records import GEOMETRY_KINDS, Rollout, SlotReading
from coordeval.runs import RunWriter, open_run, read_slots
from coordeval.slot_table import SLOT_COLUMNS

IDENTITY = {"checkpoint": {"hash": "abc"}, "frame": "coordexp"}
TYPES = {
    "int64": {"sample_index", "token", "record", "slot", "written_id"},
    "Int64": {"written_bin", "top_bin", "other_id"},
    "float64": {"mass_bound"},
    "Float64": {"coord_mass", "top_prob", "entropy", "other_prob"},
    "object": {"id", "kind", "other_text"},
}


def reading(token=0, **changes):
    fields = {
        "token": token,
        "record": 0,
        "slot": 0,
        "kind": "bbox_2d",
        "written_id": 7,
        "written_bin": 3,
        "coord_mass": 0.75,
        "mass_bound": 0.0,
        "top_bin": 4,
        "top_prob": 0.5,
        "entropy": 1.25,
        "other_id": 9,
        "other_text": "第",
        "other_prob": 0.125,
    }
    return SlotReading(**(fields | changes))


def rollout(name, slots, *, sample_index=0, **changes):
    fields = {"width": 8, "height": 8, "gt": (), "text": "", "finish_reason": "stop"}
    return Rollout(id=name, slots=slots, sample_index=sample_index, **(fields | changes))


def writer(path):
    return RunWriter(path, identity=IDENTITY, extra={})


def rows(path):
    """Rows of the run's table as plain tuples: key, then reading."""
    table = read_slots(open_run(path))
    assert list(table.columns) == list(SLOT_COLUMNS)
    for dtype, names in TYPES.items():
        assert {name for name in table.columns if table[name].dtype == dtype} == names
    clean = table.astype(object).where(table.notna(), None)
    return [
        ((row[0], row[1]), SlotReading(*row[2:]))
        for row in clean.itertuples(index=False, name=None)
    ]


READINGS = st.builds(
    SlotReading,
    token=st.integers(0, 10**6),
    record=st.integers(0, 500),
    slot=st.integers(0, 50),
    kind=st.sampled_from(GEOMETRY_KINDS),
    written_id=st.integers(0, 2**31),
    written_bin=st.none() | st.integers(0, 999),
    coord_mass=st.none() | st.floats(0, 1),
    mass_bound=st.floats(0, 1),
    top_bin=st.none() | st.integers(0, 999),
    top_prob=st.none() | st.floats(0, 1),
    entropy=st.none() | st.floats(0, 7),
    other_id=st.none() | st.integers(0, 2**31),
    other_text=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    other_prob=st.none() | st.floats(0, 1),
)


@given(lists=st.lists(st.lists(READINGS, max_size=4), min_size=1, max_size=4))
def test_readings_survive_the_table(tmp_path_factory, lists):
    """What was read off the model comes back equal, None as None, in the order of the lines."""
    path = tmp_path_factory.mktemp("slots") / "run"
    with writer(path) as run:
        for index, slots in enumerate(lists):
            run.append([rollout(f"第{index}", slots, sample_index=index)])
        run.finish("complete", {})
    expected = [((f"第{i}", i), slot) for i, slots in enumerate(lists) for slot in slots]
    assert rows(path) == expected
    assert sorted(file.name for file in path.iterdir() if "slots" in file.name) == ["slots.parquet"]


def test_an_empty_table_has_the_same_types(tmp_path):
    """Telemetry without a single slot is a table of no rows; no telemetry is no table."""
    with writer(tmp_path / "empty") as run:
        run.append([rollout("a", [])])
        run.finish("complete", {})
    assert rows(tmp_path / "empty") == []
    columns = pd.read_parquet(tmp_path / "empty" / "slots.parquet").dtypes.astype(str).to_dict()
    with writer(tmp_path / "full") as run:
        run.append([rollout("a", [reading()])])
        run.finish("complete", {})
    full = pd.read_parquet(tmp_path / "full" / "slots.parquet").dtypes.astype(str).to_dict()
    assert columns == full
    with writer(tmp_path / "none") as run:
        run.append([rollout("a", None)])
        run.finish("complete", {})
    assert read_slots(open_run(tmp_path / "none")) is None
    assert not [file for file in (tmp_path / "none").iterdir() if "slots" in file.name]


def test_slots_do_not_stand_in_the_lines(tmp_path):
    """A rollout line is what it was without telemetry."""
    with writer(tmp_path / "with") as run:
        run.append([rollout("a", [reading()])])
    with writer(tmp_path / "without") as run:
        run.append([rollout("a", None)])
    lines = [(tmp_path / name / "rollouts.jsonl").read_bytes() for name in ("with", "without")]
    assert lines[0] == lines[1]


def test_a_killed_run_keeps_the_slots_of_its_lines(tmp_path):
    """Without a finish the readings are there all the same, and go into the table of the resume."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("a", [reading(1)]), rollout("b", [reading(2), reading(3)])])
    assert [r.token for _, r in rows(path)] == [1, 2, 3]
    with writer(path) as run:
        run.append([rollout("c", [reading(4)])])
        run.finish("interrupted", {})
    assert [r.token for _, r in rows(path)] == [1, 2, 3, 4]
    with writer(path) as run:
        run.append([rollout("d", [reading(5)])])
        assert [r.token for _, r in rows(path)] == [1, 2, 3, 4, 5]
        run.finish("complete", {})
    assert [(key, r.token) for key, r in rows(path)][-2:] == [(("c", 0), 4), (("d", 0), 5)]


def test_torn_tails_are_redone(tmp_path):
    """Cut at any byte, log and lines together give each rollout its slots exactly once."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("a", [reading(1)])])
        run.append([rollout("b", [reading(2)])])
    log, lines = path / "slots.pending.jsonl", path / "rollouts.jsonl"
    whole_log, whole_lines = log.read_bytes(), lines.read_bytes()
    first = whole_lines.index(b"\n") + 1
    for cut in range(whole_log.index(b"\n") + 1, len(whole_log), 7):
        log.write_bytes(whole_log[:cut])
        lines.write_bytes(whole_lines[:first])
        with writer(path) as run:
            assert run.finished == {("a", 0)}
            assert [r.token for _, r in rows(path)] == [1]
            run.append([rollout("b", [reading(2)])])
            run.finish("complete", {})
        assert [r.token for _, r in rows(path)] == [1, 2]
        (path / "slots.parquet").unlink()


def test_a_kill_between_log_and_lines_leaves_no_orphans(tmp_path):
    """Slots whose rollout has no line are not shown, and are replaced when it is made anew."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("a", [reading(1)]), rollout("b", [reading(2)])])
    lines = path / "rollouts.jsonl"
    lines.write_bytes(lines.read_bytes().splitlines(keepends=True)[0])
    assert [r.token for _, r in rows(path)] == [1]
    with writer(path) as run:
        run.append([rollout("b", [reading(20), reading(21)])])
        run.finish("complete", {})
    assert [r.token for _, r in rows(path)] == [1, 20, 21]


def test_rewritten_lines_take_their_slots_along(tmp_path):
    """Restoring the order reorders the table; redone error lines get new slots, others stay."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("b", [reading(2)]), rollout("a", [reading(1)])])
        run.append([rollout("c", None, finish_reason="error", error="no image")])
        run.finish("complete", {})
    restore_order(path, [("a", 0), ("b", 0), ("c", 0)])
    assert [r.token for _, r in rows(path)] == [1, 2]
    assert drop_error_lines(path) == 1
    with writer(path) as run:
        run.append([rollout("c", [reading(3)])])
        run.finish("complete", {})
    assert [(key[0], r.token) for key, r in rows(path)] == [("a", 1), ("b", 2), ("c", 3)]


def test_odd_ids_find_their_slots(tmp_path):
    """An id that is not valid Unicode is escaped in the table and stays one rollout."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("x\ud800", [reading(1)])])
        run.finish("interrupted", {})
    with writer(path) as run:
        run.append([rollout("y", [reading(2, other_text="\udc9f")])])
        run.finish("complete", {})
    assert [(key[0], r.token, r.other_text) for key, r in rows(path)] == [
        ("x\\ud800", 1, "第"),
        ("y", 2, "\\udc9f"),
    ]


def test_numbers_that_are_none_become_unknown(tmp_path):
    """A NaN that slipped through is an unknown value, never a number."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("a", [reading(coord_mass=math.nan)])])
        run.finish("complete", {})
    assert rows(path)[0][1].coord_mass is None


def test_broken_tables_are_named(tmp_path):
    """A file that is no slot table is one clear line with its path."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("a", [reading()])])
        run.finish("complete", {})
    (path / "slots.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"slots\.parquet"):
        read_slots(open_run(path))
    pd.DataFrame({"id": ["a"]}).to_parquet(path / "slots.parquet")
    with pytest.raises(DataError, match="column"):
        read_slots(open_run(path))
    (path / "slots.parquet").unlink()
    (path / "slots.pending.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(DataError, match=r"slots\.pending\.jsonl:1"):
        read_slots(open_run(path))


def test_a_bare_file_has_no_slots(tmp_path):
    """Lines alone carry no telemetry, whatever lies beside them."""
    path = tmp_path / "run"
    with writer(path) as run:
        run.append([rollout("a", [reading()])])
        run.finish("complete", {})
    assert read_slots(open_run(path / "rollouts.jsonl")) is None
