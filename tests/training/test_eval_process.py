"""Evaluations handed to another process: logged under their own step, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from live_training import SCENES, callback, make_trainer, reader_of, tiny_model

from coordeval.data.prompts import Prompt
from coordeval.errors import ConfigError
from coordeval.runs import read_meta
from coordeval.training.rollout_eval.live_checkpoint import save_live
from coordeval.training.rollout_eval.plan import EvalData
from coordeval.training.rollout_eval.process import ProcessEvaluator, clean_environment
from coordeval.training.rollout_eval.worker import main, write_job


def rollout_rows(trainer):
    return [row for row in trainer.state.log_history if "eval_rollout/seconds" in row]


@pytest.mark.slow
def test_its_numbers_are_those_of_the_training_itself(tmp_path):
    """Each step's result is logged once, under its step, and equals the evaluation in process."""
    found = {}
    for engine in ("hf", "process"):
        model, notes = tiny_model(), []
        options = {"engine": engine, "notify": notes.append, "every": 3}
        options |= {"best_metric": "samples/truncated_rate"}
        trainer = make_trainer(tmp_path / engine, model, [callback(model, **options)])
        trainer.train()
        assert all("max-new-tokens" in note for note in notes), notes
        assert trainer.state.global_step == 4
        found[engine] = trainer
    rows = {engine: rollout_rows(trainer) for engine, trainer in found.items()}
    assert [row["step"] for row in rows["process"]] == [3, 4]
    for one, other in zip(rows["hf"], rows["process"], strict=True):
        assert one["epoch"] == other["epoch"]
        drop = "eval_rollout/seconds"
        left = {key: value for key, value in one.items() if key != drop}
        assert left == pytest.approx({k: v for k, v in other.items() if k != drop}, abs=1e-4)
    weights = [[p.clone() for p in t.model.parameters()] for t in found.values()]
    assert all((a == b).all() for a, b in zip(*weights, strict=True))
    records = [json.loads((tmp_path / e / "best.json").read_text()) for e in ("hf", "process")]
    assert records[0] == records[1]
    folder = tmp_path / "process"
    assert (folder / "best" / "model.safetensors").exists()
    assert (folder / "monitor_dumps" / "step_000003.json").exists()
    assert not [item for item in (folder / "eval").iterdir() if item.name.startswith(".")]


@pytest.mark.slow
def test_a_process_that_fails_is_told_with_its_log(tmp_path, monkeypatch):
    """The reason reaches people; the training ends as if nothing had been."""
    from coordeval.training.rollout_eval import process as eval_process

    monkeypatch.setattr(eval_process, "LAST_LINES", 900)
    monkeypatch.setenv("COORDEVAL_TEST_BREAK", "1")
    model, notes = tiny_model(), []
    made = callback(
        model,
        engine="process",
        every=9,
        notify=notes.append,
        decode={"engine": "vllm" if not _has_vllm() else "server"},
    )
    trainer = make_trainer(tmp_path, model, [made], max_steps=1)
    trainer.train()
    assert trainer.state.global_step == 1 and rollout_rows(trainer) == []
    assert any("step 1 failed: exit code 2" in note for note in notes), notes


def _has_vllm():
    import importlib.util

    return importlib.util.find_spec("vllm") is not None


def test_the_worker_rolls_out_scores_and_resumes(tmp_path):
    """One job file in, an ordinary scored run directory out; another checkpoint's is set aside."""
    for seed in (0, 1):
        model = tiny_model(seed=seed)
        save_live(model, reader_of(model), tmp_path / f"ckpt{seed}", trainer=None, main=True)
    out = tmp_path / "eval" / "step_000001"
    data = {"data": str(SCENES), "limit": 2, "decode": {"max_new_tokens": 8}}
    for seed in (0, 0, 1):
        job = tmp_path / "job.json"
        write_job(
            job, data=data, checkpoint=str(tmp_path / f"ckpt{seed}"), out=str(out), engine="auto"
        )
        assert main([str(job)]) == 0
        assert (out / "score" / "metrics.json").exists()
    assert [item.name for item in sorted(out.parent.iterdir())] == [out.name, f"{out.name}.old-1"]
    job.write_text(json.dumps({"data": data, "checkpoint": "absent", "out": "x", "engine": "hf"}))
    assert main([str(job)]) == 2


def test_a_prompt_of_ones_own_goes_along(tmp_path):
    """The process asks what the training would ask, whatever the prompt came from."""
    prompt = Prompt(name="own", version="3", system="Be brief.", user='Objets ? "x" 第九')
    model = tiny_model()
    save_live(model, reader_of(model), tmp_path / "ckpt", trainer=None, main=True)
    data = EvalData(data=SCENES, prompt=prompt, limit=1, decode={"max_new_tokens": 4})
    described = ProcessEvaluator(data, tmp_path)._described()
    out = tmp_path / "eval" / "step_000001"
    job = tmp_path / "job.json"
    write_job(job, data=described, checkpoint=str(tmp_path / "ckpt"), out=str(out), engine="hf")
    assert main([str(job)]) == 0
    assert read_meta(out / "run.json")["prompt"] == prompt.to_json()


def test_samples_in_memory_are_not_handed_over(tmp_path):
    """Another process reads a file; that is said at the start."""
    with pytest.raises(ConfigError, match="file"):
        ProcessEvaluator(EvalData(data=[]), tmp_path)


def test_a_launchers_variables_stay_behind():
    """The evaluation must not take itself for a process of the training."""
    launched = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "ACCELERATE_USE_FSDP": "true"}
    kept = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "MASTER": "m"}
    assert clean_environment(launched | kept) == kept


def test_nothing_is_under_way_before_a_start(tmp_path):
    """Asking for results, or stopping, is safe at any time."""
    evaluator = ProcessEvaluator(EvalData(data=Path(SCENES)), tmp_path)
    assert evaluator.finished(wait=True) is None
    evaluator.stop()


@pytest.mark.slow
def test_what_was_under_way_is_taken_up_again(tmp_path):
    """Of the steps before the one gone on from; later ones and other trainings' are removed."""
    model = tiny_model()
    data = EvalData(data=Path(SCENES), limit=2, decode={"max_new_tokens": 8})
    left = ProcessEvaluator(data, tmp_path)
    save_live(model, reader_of(model), left.checkpoint_of(4), trainer=None, main=True)
    left.start(4, 0.5)
    left.stop()
    assert left.checkpoint_of(4).is_dir()
    resumed = ProcessEvaluator(data, tmp_path)
    assert resumed.take_up(5) == 4
    handed = resumed.finished(wait=True)
    assert (handed.step, handed.epoch, handed.failure()) == (4, 0.5, None)
    assert read_meta(handed.out / "run.json")["status"] == "complete"
    for step in (3, 0):
        job = tmp_path / "eval" / ".step_000004.job.json"
        job.write_text("{}")
        resumed.checkpoint_of(4).mkdir(exist_ok=True)
        assert ProcessEvaluator(data, tmp_path).take_up(step) is None
        assert not job.exists() and not resumed.checkpoint_of(4).exists()


@pytest.mark.slow
def test_a_run_that_another_process_writes_is_waited_for(tmp_path, monkeypatch):
    """A killed training's evaluation may still be at work when the training goes on."""
    from coordeval.engines import job as engine_job
    from coordeval.errors import RunLockedError
    from coordeval.training.rollout_eval import worker

    model, tries = tiny_model(), []
    save_live(model, reader_of(model), tmp_path / "c", trainer=None, main=True)
    rolled = engine_job.rollout_checkpoint

    def locked_once(options, **given):
        tries.append(options.out)
        if len(tries) == 1:
            raise RunLockedError("being written")
        return rolled(options, **given)

    monkeypatch.setattr(engine_job, "rollout_checkpoint", locked_once)
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_TRIES", 0.0)
    job = tmp_path / "job.json"
    data = {"data": str(SCENES), "limit": 1, "decode": {"max_new_tokens": 8}}
    write_job(job, data=data, checkpoint=str(tmp_path / "c"), out=str(tmp_path / "r"), engine="hf")
    assert main([str(job)]) == 0
    assert len(tries) == 2
