"""Promises about joining shards: exactly the whole, or a refusal that says why."""

from __future__ import annotations

import json

import pytest

from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.merge import merge_runs
from coordeval.engines.options import RolloutOptions
from coordeval.errors import ConfigError, RunIncomplete, RunMismatchError


@pytest.fixture
def roll(tmp_path, dataset_path, recording):
    """Roll the recording out into a run directory of that name."""

    def run(name, **options):
        arguments = {"checkpoint": str(recording), "data": dataset_path, "engine": "replay"}
        arguments |= {"runs_dir": tmp_path / "runs", "out": tmp_path / name}
        rollout_checkpoint(RolloutOptions(**(arguments | options)))
        return tmp_path / name

    return run


def content(run):
    return (run / "rollouts.jsonl").read_bytes()


def meta(run):
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("options", [{}, {"limit": 7}, {"samples": 2, "temperature": 1.0}])
def test_merged_shards_are_the_whole_run(roll, tmp_path, options):
    """Given in any order, shards give the file that one run would have written."""
    shards = [roll(f"s{index}", shard=f"{index}/3", **options) for index in (2, 0, 1)]
    counts = merge_runs(shards, tmp_path / "merged")
    whole = roll("whole", **options)
    assert content(tmp_path / "merged") == content(whole)
    assert counts == meta(whole)["counts"] == meta(tmp_path / "merged")["counts"]
    assert meta(tmp_path / "merged")["selection"] == meta(whole)["selection"]
    assert meta(tmp_path / "merged")["status"] == "complete"


def test_runs_by_ids_can_be_joined(roll, tmp_path):
    """Selections other than shards are joined too, and stay on record."""
    parts = [roll("a", ids="im0,im3"), roll("b", ids="im1")]
    merge_runs(parts, tmp_path / "merged")
    ids = [json.loads(line)["id"] for line in content(tmp_path / "merged").splitlines()]
    assert sorted(ids) == ["im0", "im1", "im3"]
    assert len(meta(tmp_path / "merged")["selection"]["merged"]) == 2


def test_a_missing_shard_is_noticed(roll, tmp_path):
    """Two shards of three are not a run."""
    shards = [roll("s0", shard="0/3"), roll("s2", shard="2/3")]
    with pytest.raises(RunIncomplete, match="1/3"):
        merge_runs(shards, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_same_shard_twice_is_noticed(roll, tmp_path):
    """A shard given twice does not stand in for the missing one."""
    shards = [roll("s0", shard="0/2"), roll("again", shard="0/2")]
    with pytest.raises(RunMismatchError, match="more than once"):
        merge_runs(shards, tmp_path / "merged")


def test_overlapping_runs_are_a_conflict(roll, tmp_path):
    """An id in two parts is an error that names it."""
    with pytest.raises(RunMismatchError, match="'im3'"):
        merge_runs([roll("a", ids="im0,im3"), roll("b", ids="im3")], tmp_path / "merged")


def test_shards_of_different_splits_do_not_join(roll, tmp_path):
    """0/2 and 1/3 never belong together."""
    with pytest.raises(RunMismatchError, match="different splits"):
        merge_runs([roll("a", shard="0/2"), roll("b", shard="1/3")], tmp_path / "merged")


def test_shards_of_other_settings_do_not_join(roll, tmp_path):
    """What differs is named."""
    parts = [roll("a", shard="0/2"), roll("b", shard="1/2", max_new_tokens=300)]
    with pytest.raises(RunMismatchError, match="decode"):
        merge_runs(parts, tmp_path / "merged")


def test_an_unfinished_shard_is_refused(roll, tmp_path):
    """A shard that was interrupted has to be finished first."""
    parts = [roll("a", shard="0/2"), roll("b", shard="1/2")]
    changed = meta(parts[1]) | {"status": "interrupted"}
    (parts[1] / "run.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(RunIncomplete, match="interrupted"):
        merge_runs(parts, tmp_path / "merged")


def test_merge_never_writes_into_an_existing_run(roll, tmp_path):
    """The target must be new, and one run is nothing to merge."""
    parts = [roll("a", shard="0/2"), roll("b", shard="1/2")]
    with pytest.raises(ConfigError, match="already holds a run"):
        merge_runs(parts, parts[0])
    with pytest.raises(ConfigError, match="at least two"):
        merge_runs(parts[:1], tmp_path / "merged")
