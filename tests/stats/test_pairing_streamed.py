"""Runs that are compared are read from their files, in whatever order their lines stand."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from coordeval.errors import DataError
from coordeval.runs import open_run
from coordeval.stats.pairing import pair_runs

GT = [{"desc": "cat", "bbox_2d": [1, 2, 30, 40]}]


def run_of(path, keys, gt=GT):
    lines = [
        {"id": key, "sample_index": index, "width": 99, "height": 99, "gt": gt, "text": f"{key}"}
        for key, index in keys
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return open_run(path)


def keys_of(run):
    return [(one.id, one.sample_index) for one in run.rollouts()]


@pytest.mark.parametrize(
    ("lines", "other_order"),
    [
        ("a0 b0 c0 d0", False),
        ("a0 a1 b0 b1 c0", False),
        ("x0 a0 b0 c0", False),
        ("b0 a0 c0", True),
        ("a0 c0 b0 b1", True),
    ],
)
def test_headlines_come_in_the_order_of_the_first_run(lines, other_order, tmp_path):
    """Whatever order the second file has, its common images come as the first run's do."""
    one = run_of(tmp_path / "a.jsonl", [("a", 0), ("b", 0), ("y", 0), ("c", 0)])
    two = run_of(tmp_path / "b.jsonl", [(key[0], int(key[1])) for key in lines.split()])
    pairing = pair_runs([one, two])
    assert pairing.ids == ("a", "b", "c")
    for run in pairing.runs:
        assert [key for key, index in keys_of(run) if index == 0] == ["a", "b", "c"]
        assert keys_of(run) == keys_of(run)
        assert run.chosen is None
    assert pairing.reordered == (False, other_order)


def test_a_run_in_another_order_is_not_held(tmp_path):
    """8 MB of rollouts, read backwards line by line, never take a quarter of that."""
    keys = [(f"{number:03}", 0) for number in range(400)]
    runs = [run_of(tmp_path / name, order) for name, order in (("a", keys), ("b", keys[::-1]))]
    for run in runs:  # in place, with a torn last line and a blank one in between
        lines = [json.loads(line) for line in run.rollouts_path.read_text().splitlines()]
        written = [json.dumps(line | {"text": "x" * 20_000}) for line in lines]
        run.rollouts_path.write_text("\n".join([*written[:9], "", *written[9:], '{"id": "to']))
    tracemalloc.start()
    pairing = pair_runs(runs)
    assert keys_of(pairing.runs[1]) == keys_of(pairing.runs[0]) == keys
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_file_that_changes_under_a_comparison_is_an_error(tmp_path):
    """A line that no longer stands where it stood is said, not read as another one."""
    one = run_of(tmp_path / "a.jsonl", [("a", 0), ("b", 0)])
    two = run_of(tmp_path / "b.jsonl", [("b", 0), ("a", 0)])
    pairing = pair_runs([one, two])
    two.rollouts_path.write_text("   " + two.rollouts_path.read_text()[3:])
    with pytest.raises(DataError, match=r"b\.jsonl: changed while it was read"):
        keys_of(pairing.runs[1])


def test_other_samples_before_headlines_do_not_decide_the_order(tmp_path):
    """Where samples stand mixed, both runs still give their headlines in one order."""
    mixed = [("b", 1), ("a", 0), ("b", 0), ("a", 1)]
    runs = [run_of(tmp_path / f"{name}.jsonl", mixed) for name in "ab"]
    pairing = pair_runs(runs)
    for run in pairing.runs:
        assert [key for key, index in keys_of(run) if index == 0] == list(pairing.ids)
        assert sorted(keys_of(run)) == sorted(mixed)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"bbox_2d": [1.00001, 2.0, 30, 40]}, True),
        ({"iscrowd": False}, True),
        ({"bbox_2d": [1.001, 2, 30, 40]}, False),
        ({"desc": "Cat"}, False),
        ({"iscrowd": True}, False),
        ({"area": 5}, False),
    ],
)
def test_ground_truth_is_the_same_to_four_digits(change, same, tmp_path):
    """Objects in any order and numbers in any form are one ground truth; all else is another."""
    more = {"desc": "dog", "bbox_2d": [0, 0, 5, 5], "area": 25}
    one = run_of(tmp_path / "a.jsonl", [("a", 0)], [*GT, more])
    two = run_of(tmp_path / "b.jsonl", [("a", 0)], [more | {"area": 25.0}, GT[0] | change])
    assert pair_runs([one, two]).other_truth == ((), () if same else ("a",))
