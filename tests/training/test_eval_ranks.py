"""The evaluator on two processes: the same run directory as on one, and nobody left waiting."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from forked_scripts import run_ranks
from live_training import callback, make_trainer, tiny_model

WORKER = Path(__file__).with_name("rank_worker.py")


def on_two_processes(names, out):
    """Run the worker twice, side by side; what each process found, by rank."""
    ranks = run_ranks(WORKER, names, out, env=os.environ | {"OMP_NUM_THREADS": "1"})
    said = [done.stdout + done.stderr for done in ranks]
    assert [done.returncode for done in ranks] == [0, 0], "\n".join(said)[-6000:]
    return json.loads((out / f"{names}.json").read_text())


def lines_of(run):
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds")
    return rows


def assert_same_rollouts(one, two):
    ones, twos = lines_of(one), lines_of(two)
    for mine, theirs in zip(ones, twos, strict=True):
        logprobs = theirs.pop("token_logprobs")
        assert mine.pop("token_logprobs") == pytest.approx(logprobs, abs=1e-4)
    assert ones == twos


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path):
    """Samples are split, gathered in dataset order; failures of one process hang nobody."""
    found = on_two_processes("whole,failing,refused", tmp_path)
    first, second = found["whole"]
    assert first["equal"] and second["equal"]  # training is as without the evaluator
    assert [row["step"] for row in first["logs"]] == [0, 1, 2]
    assert first["logs"] == second["logs"]
    assert second["notes"] == []  # only the main process speaks
    model = tiny_model()
    alone = make_trainer(
        tmp_path / "alone",
        model,
        [callback(model, every=9, at_start=True, at_end=False, limit=7, batch_size=2)],
        max_steps=1,
    )
    alone.train()
    one, two = (tmp_path / name / "eval" / "step_000000" for name in ("alone", "watched"))
    assert_same_rollouts(one, two)
    metas = [json.loads((run / "run.json").read_text()) for run in (one, two)]
    assert metas[0]["checkpoint"]["hash"] == metas[1]["checkpoint"]["hash"]
    assert metas[1]["environment"]["processes"] == 2
    scores = [json.loads((run / "score" / "metrics.json").read_text()) for run in (one, two)]
    for key, value in scores[0]["metrics"].items():
        assert scores[1]["metrics"][key] == pytest.approx(value, abs=1e-9), key
    assert (tmp_path / "watched" / "best" / "model.safetensors").exists()
    _failures(found["failing"])
    errors = [result["error"] for result in found["refused"]]
    assert all(error is not None and "limit" in error for error in errors)


def _failures(results):
    first, second = results
    assert first["steps"] == second["steps"] == 2
    assert [row["step"] for row in first["logs"]] == [0, 1]
    assert [row["eval_rollout/samples/errors"] for row in first["logs"]] == [2, 2]
    text = "\n".join(first["notes"])
    assert "share lost" in text and "no engine" in text and "no disk" in text


@pytest.mark.slow
def test_sharded_weights_are_gathered_and_handed_to_another_process(tmp_path):
    """Under FSDP the run is that of the whole weights, logged under its step."""
    found = on_two_processes("sharded", tmp_path)["sharded"]
    model = tiny_model()
    make_trainer(
        tmp_path / "alone",
        model,
        [callback(model, every=9, at_start=True, at_end=False)],
        max_steps=1,
    ).train()
    for version in ("1", "2"):
        first, second = (each[version] for each in found)
        assert first["sharding"] == second["sharding"] == "fsdp"
        assert any("sharded" in note for note in first["notes"]) and second["notes"] == []
        assert [row["step"] for row in first["logs"]] == [1] and second["logs"] == []
        whole, alone = tmp_path / f"sharded{version}", tmp_path / "alone"
        assert_same_rollouts(whole / "eval" / "step_000001", alone / "eval" / "step_000000")
        assert (whole / "best" / "model.safetensors").exists()
        assert not list((whole / "eval").glob(".step*"))
