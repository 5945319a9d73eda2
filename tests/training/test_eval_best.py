"""The best checkpoint: which evaluation wins, and that what lies there is always whole."""

from __future__ import annotations

import json

import pytest
import torch
from live_training import callback, make_trainer, reader_of, tiny_model

from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.best import BestCheckpoint, metric_direction
from coordeval.training.rollout_eval.runs import Evaluated

HIGHER, LOWER = "f1/0.50/f1", "parse/drop_rate"


def outcome(folder, step, **metrics):
    return Evaluated(
        step=step,
        epoch=None,
        path=folder / "eval" / f"step_{step:06d}",
        metrics={key.replace("__", "/"): value for key, value in metrics.items()},
        seconds=0.0,
    )


def offer(best, folder, step, value):
    """Offer a value as a training does; True where it was taken."""
    evaluated = outcome(folder, step) if value == "absent" else None
    evaluated = evaluated or Evaluated(
        step=step,
        epoch=None,
        path=folder / "eval" / f"step_{step:06d}",
        metrics={best.metric: value},
        seconds=0.0,
    )
    if not best.improves(evaluated):
        return False
    best.incoming.mkdir()
    (best.incoming / "weights").write_text(str(step))
    best.accept(evaluated)
    return True


@pytest.mark.parametrize(
    ("metric", "values", "winner"),
    [
        (HIGHER, [0.1, 0.3, 0.2], 1),
        (LOWER, [0.1, 0.3, 0.05], 2),
        (HIGHER, [0.3, 0.3, 0.3], 0),
        (LOWER, [0.0, 0.0], 0),
        (HIGHER, [None, 0.0, None], 1),
        (LOWER, [None, 0.9, None, "absent"], 1),
        (HIGHER, [None, "absent"], None),
        ("eval_rollout/f1/0.50/f1", [0.1, 0.2], 1),
    ],
)
def test_the_winner_is_the_first_of_the_best(tmp_path, metric, values, winner):
    """Direction from the catalogue; no value never wins; of equals the earlier one stays."""
    best = BestCheckpoint(tmp_path, metric, fresh=True)
    for step, value in enumerate(values):
        offer(best, tmp_path, step, value)
    if winner is None:
        assert not (tmp_path / "best.json").exists() and not (tmp_path / "best").exists()
        return
    record = json.loads((tmp_path / "best.json").read_text())
    assert (record["step"], record["value"]) == (winner, values[winner])
    assert record["run"] == f"eval/step_{winner:06d}"
    assert (tmp_path / record["checkpoint"] / "weights").read_text() == str(winner)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["best", "best.json"]


def test_directions_are_those_of_the_catalogue():
    """A key without a better direction, or unknown, is refused."""
    assert (metric_direction(HIGHER), metric_direction(LOWER)) == ("higher", "lower")
    for key in ("parse/objects_found", "f1/0.50/f2", ""):
        with pytest.raises(ConfigError):
            metric_direction(key)


def test_a_resumed_training_beats_what_was_kept(tmp_path):
    """The record outlives the process; a fresh training puts an older one aside."""
    offer(BestCheckpoint(tmp_path, HIGHER, fresh=True), tmp_path, 1, 0.5)
    resumed = BestCheckpoint(tmp_path, HIGHER, fresh=False)
    assert resumed.value == 0.5
    assert not offer(resumed, tmp_path, 2, 0.5) and offer(resumed, tmp_path, 3, 0.6)
    notes = []
    fresh = BestCheckpoint(tmp_path, HIGHER, fresh=True, notify=notes.append)
    assert fresh.value is None and "best.old-1" in notes[0]
    assert (tmp_path / "best.old-1" / "weights").read_text() == "3"
    assert not (tmp_path / "best.json").exists()


@pytest.mark.parametrize("stopped_after", ["old away", "new there"])
def test_a_crash_while_replacing_leaves_a_whole_best(tmp_path, stopped_after):
    """Between any two renames there is one whole folder, and the next start finds it."""
    best = BestCheckpoint(tmp_path, HIGHER, fresh=True)
    offer(best, tmp_path, 1, 0.5)
    record = (tmp_path / "best.json").read_bytes()
    if stopped_after == "old away":
        (tmp_path / "best").rename(tmp_path / ".best.old")
        expected = (1, "1")
    else:
        offer(best, tmp_path, 2, 0.7)
        (tmp_path / "best.json").write_bytes(record)
        expected = (2, "2")
    BestCheckpoint(tmp_path, HIGHER, fresh=False)
    found = json.loads((tmp_path / "best.json").read_text())
    assert (found["step"], (tmp_path / "best" / "weights").read_text()) == expected


def test_the_best_weights_are_those_of_the_best_step(tmp_path):
    """What lies in best/ loads, and hashes to what its run says; the limit of savings spares it."""
    from transformers import AutoModelForImageTextToText

    from coordeval.training.rollout_eval.weights_hash import weights_hash

    model = tiny_model()
    values = iter([0.2, 0.9, 0.4, 0.9])
    made = callback(model, every=1, best_metric=HIGHER)
    with pytest.MonkeyPatch.context() as patch:
        from coordeval.training.rollout_eval import live_evaluator

        score = live_evaluator.score_folder

        def scored(path):
            result = score(path)
            result.metrics[HIGHER] = next(values)
            return result

        patch.setattr(live_evaluator, "score_folder", scored)
        args = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
        make_trainer(tmp_path, model, [made], **args).train()
    record = json.loads((tmp_path / "best.json").read_text())
    assert record["step"] == 2
    assert [item.name for item in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "best", dtype=torch.float32)
    meta = json.loads((tmp_path / record["run"] / "run.json").read_text())
    assert weights_hash(loaded) == meta["checkpoint"]["hash"]
    from coordeval.engines.checkpoint import resolve_checkpoint
    from coordeval.engines.hf_loading import load_reader

    assert load_reader(resolve_checkpoint(str(tmp_path / "best"))).end_ids


def test_a_best_that_cannot_be_kept_costs_only_itself(tmp_path, monkeypatch):
    """A full disk leaves the last best as it was, and training goes on."""
    from coordeval.training.rollout_eval import session as eval_session

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(eval_session, "save_best", full)
    model, notes = tiny_model(), []
    made = callback(model, best_metric="samples/truncated_rate", notify=notes.append)
    trainer = make_trainer(tmp_path, model, [made])
    trainer.train()
    assert trainer.state.global_step == 4
    assert any("could not be kept" in note for note in notes)
    assert not (tmp_path / "best").exists() and not (tmp_path / "best.json").exists()


@pytest.mark.parametrize(
    ("values", "best_step"), [([0.1, 0.8, 0.3, 0.8], 2), ([None, None, 0.0, None], 3)]
)
def test_the_trainers_own_choice_by_a_rollout_metric(tmp_path, values, best_step):
    """`metric_for_best_model: eval_rollout/...` works; a missing value never wins."""
    from coordeval.training.rollout_eval import live_evaluator

    model = tiny_model()
    left = iter(values)
    score = live_evaluator.score_folder

    def scored(path):
        result = score(path)
        result.metrics[HIGHER] = next(left)
        return result

    args = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_rollout/{HIGHER}",
        "greater_is_better": True,
        "per_device_eval_batch_size": 1,
        "prediction_loss_only": True,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_evaluator, "score_folder", scored)
        # Not every step is an evaluation of its own: the trainer's evaluation asks for one.
        made = callback(model, every=3)
        trainer = make_trainer(tmp_path, model, [made], eval_count=1, **args)
        trainer.train()
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best_step}")
    assert len([r for r in trainer.state.log_history if "eval_rollout/seconds" in r]) == 4


@pytest.mark.parametrize(
    ("args", "options", "words"),
    [
        (
            {"metric_for_best_model": f"eval_rollout/{LOWER}", "greater_is_better": True},
            {},
            "false",
        ),
        (
            {"metric_for_best_model": "rollout/f1/0.50/f2", "greater_is_better": True},
            {},
            "no metric",
        ),
        (
            {"metric_for_best_model": f"eval_rollout/{HIGHER}", "greater_is_better": True},
            {"engine": "process"},
            "at once",
        ),
    ],
)
def test_a_choice_that_would_take_the_worst_is_refused(tmp_path, args, options, words):
    """The trainer guesses directions from names; the catalogue knows them."""
    model = tiny_model()
    trainer = make_trainer(tmp_path, model, [callback(model, **options)], **args)
    with pytest.raises(ConfigError, match=words):
        trainer.train()


def test_an_adapter_is_kept_as_an_adapter(tmp_path):
    """With LoRA the best is the adapter alone, as the trainer's own checkpoints are."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    made = callback(tiny_model(), best_metric="samples/truncated_rate")
    make_trainer(tmp_path, model, [made]).train()
    assert (tmp_path / "best" / "adapter_model.safetensors").exists()
    assert (tmp_path / "best" / "tokenizer_config.json").exists()
    assert reader_of(tiny_model()).end_ids
