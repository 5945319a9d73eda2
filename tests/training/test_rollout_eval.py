"""The evaluator in a real Trainer: what it leaves alone, writes, logs and survives."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from live_training import SCENES, Scenes, callback, make_trainer, reader_of, tiny_model
from typer.testing import CliRunner

from coordeval.cli.app import app
from coordeval.errors import CheckpointError, ConfigError, DataError
from coordeval.metrics.catalogue import describe
from coordeval.runs import read_meta

STEPS = (0, 2, 4)


def trained(folder, *, callbacks=lambda model: [], prepare=lambda model: model, **args):
    model = prepare(tiny_model())
    trainer = make_trainer(folder, model, callbacks(model), **args)
    trainer.train()
    return trainer


def step_rows(trainer):
    return [row for row in trainer.state.log_history if "loss" in row]


def rollout_rows(trainer):
    return [row for row in trainer.state.log_history if "eval_rollout/seconds" in row]


def written(run):
    lines = (run / "rollouts.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


def same_weights(one, other):
    mine, theirs = one.model.state_dict(), other.model.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """One training with the evaluator at 0, 2 and 4."""
    folder = tmp_path_factory.mktemp("trained")
    notes = []
    trainer = trained(
        folder,
        callbacks=lambda model: [callback(model, at_start=True, notify=notes.append)],
    )
    return folder, trainer, notes


def _lora(model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.2, use_dora=True)
    )


def _frozen_part_in_eval_mode(model):
    model.model.visual.eval()
    for parameter in model.model.visual.parameters():
        parameter.requires_grad_(False)
    return model


VARIANTS = {
    "plain": ({}, lambda model: model),
    "accumulating": ({"gradient_accumulation_steps": 2}, lambda model: model),
    "checkpointing": ({"gradient_checkpointing": True}, lambda model: model),
    "bf16": ({"bf16": True}, lambda model: model),
    "adapter": ({"gradient_checkpointing": True}, _lora),
    "frozen part": ({}, _frozen_part_in_eval_mode),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_training_with_it_is_bit_for_bit_training_without(name, tmp_path):
    """Losses, gradient norms and weights are equal, with dropout on, sampled rollouts and all."""
    args, prepare = VARIANTS[name]
    options = {"every": 1, "at_start": True, "decode": {"temperature": 0.8, "telemetry": True}}
    options |= {"best_metric": "samples/truncated_rate"}
    notes = []
    plain = trained(tmp_path / "plain", prepare=prepare, **args)
    watched = trained(
        tmp_path / "watched",
        callbacks=lambda model: [callback(tiny_model(), notify=notes.append, **options)],
        prepare=prepare,
        **args,
    )
    assert notes == [] or all("max-new-tokens" in note for note in notes)
    assert len(rollout_rows(watched)) == 5
    assert step_rows(watched) == step_rows(plain)
    assert same_weights(watched, plain)


def test_dropout_is_on_in_these_trainings(tmp_path):
    """The comparison above would show nothing if training drew no random numbers."""
    plain = trained(tmp_path / "a")
    other = make_trainer(tmp_path / "b", tiny_model(dropout=0.0), [])
    other.train()
    assert step_rows(plain) != step_rows(other)


def test_logged_numbers_are_those_of_score(evaluated):
    """`coordeval score` of a step's directory gives exactly what was logged at that step."""
    folder, trainer, _ = evaluated
    rows = {row["step"]: row for row in rollout_rows(trainer)}
    assert sorted(rows) == list(STEPS)
    for step, row in rows.items():
        run = folder / "eval" / f"step_{step:06d}"
        stored = json.loads((run / "score" / "metrics.json").read_text())
        printed = CliRunner().invoke(app, ["score", str(run), "--json"])
        assert printed.exit_code == 0
        scored = json.loads(printed.stdout)["metrics"]
        assert scored == stored["metrics"]
        logged = {
            key.removeprefix("eval_rollout/"): value
            for key, value in row.items()
            if key.startswith("eval_rollout/") and key != "eval_rollout/seconds"
        }
        assert logged == {key: value for key, value in scored.items() if value is not None}
        assert all(describe(key) is not None for key in logged)
        assert row["eval_rollout/seconds"] > 0
        assert row["epoch"] == step / 8


def test_two_steps_of_one_training_compare(evaluated):
    """The run directories are ordinary ones, told apart by the state of the weights alone."""
    folder, _, _ = evaluated
    runs = [str(folder / "eval" / f"step_{step:06d}") for step in (0, 4)]
    printed = CliRunner().invoke(app, ["compare", *runs, "--json"])
    assert printed.exit_code == 0, printed.output
    metas = [read_meta(Path(run) / "run.json") for run in runs]
    assert metas[0]["checkpoint"]["hash"] != metas[1]["checkpoint"]["hash"]
    assert metas[1]["checkpoint"]["step"] == 4
    same = ("dialect", "frame", "prompt", "decode", "dataset", "categories", "selection", "engine")
    assert all(metas[0][key] == metas[1][key] for key in same)
    assert CliRunner().invoke(app, ["inspect", runs[0]]).exit_code == 0


def test_it_equals_rolling_out_the_saved_checkpoint(tmp_path):
    """In-training and offline rollouts of the same weights write the same, token for token."""
    from coordeval.training.rollout_eval.live_checkpoint import save_live

    trainer = trained(tmp_path, callbacks=lambda model: [callback(model, every=4)], bf16=True)
    saved = tmp_path / "saved"
    save_live(trainer.model, reader_of(trainer.model), saved, trainer=None, main=True)
    options = ["--data", str(SCENES), "--limit", "4", "--max-new-tokens", "24", "--dtype", "fp32"]
    out = tmp_path / "offline"
    result = CliRunner().invoke(app, ["rollout", str(saved), *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    mine, theirs = (
        [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
        for run in (tmp_path / "eval" / "step_000004", out)
    )
    assert [row["token_ids"] for row in mine] == [row["token_ids"] for row in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert one["token_logprobs"] == pytest.approx(other["token_logprobs"], abs=1e-5)


def test_tensorboard_and_step_logs_are_not_disturbed(tmp_path):
    """TensorBoard holds the values at their step, and the trainer logs at its own steps still."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "tb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(logs))
        trainer = trained(
            tmp_path,
            callbacks=lambda model: [callback(model)],
            report_to=["tensorboard"],
            logging_steps=2,
        )
    assert [row["step"] for row in step_rows(trainer)] == [2, 4]
    events = EventAccumulator(str(next(logs.rglob("events*")).parent))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.endswith("rollout/parse/objects_found")]
    assert len(tags) == 1
    assert [event.step for event in events.Scalars(tags[0])] == [2, 4]


def test_other_libraries_running_means_are_left_alone(tmp_path):
    """A trainer whose `log` empties its own means is not made to by an evaluation."""
    from transformers import Trainer

    calls = []

    class Flushing(Trainer):
        def log(self, logs, start_time=None):
            calls.append(sorted(logs))
            super().log(logs, start_time)

    trained(tmp_path, callbacks=lambda model: [callback(model)], kind=Flushing)
    assert len(calls) == 5 and not any("eval_rollout/seconds" in keys for keys in calls)


def test_everything_of_the_model_is_put_back(tmp_path):
    """Modes of single modules, hooks, gradients, settings, caches and random states survive."""
    from coordeval.training.rollout_eval.live_evaluator import LiveEvaluator
    from coordeval.training.rollout_eval.plan import EvalData, build_plan
    from coordeval.training.rollout_eval.ranks import Alone

    model = tiny_model()
    model.model.visual.eval()
    model.gradient_checkpointing_enable()
    model.config.use_cache = False
    model.generation_config.max_length = 77
    model.lm_head.weight.requires_grad_(False)
    heard = []

    def draw(*_):  # what decodes may draw from every generator
        heard.append((torch.rand(1), random.random(), np.random.rand()))  # noqa: NPY002

    model.lm_head.register_forward_hook(draw)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    model.model.rope_deltas = torch.tensor([[5]])
    plan_data = EvalData(data=SCENES, limit=2, decode={"max_new_tokens": 8, "temperature": 1.0})
    reader = reader_of(model)
    plan = build_plan(plan_data, reader, plan_data.options(tmp_path), lambda _: None)
    live = LiveEvaluator(plan, reader, tmp_path, Alone(), notify=pytest.fail)

    def state():
        return {
            "modes": [m.training for m in model.modules()],
            "checkpointing": [getattr(m, "gradient_checkpointing", None) for m in model.modules()],
            "attributes": [sorted(vars(m)) for m in model.modules()],
            "requires": [p.requires_grad for p in model.parameters()],
            "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            "buffers": [b.clone() for b in model.buffers()],
            "config": model.config.to_dict(),
            "generation": (id(model.generation_config), model.generation_config.to_dict()),
            "rope": model.model.rope_deltas,
            "torch": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
            "grad mode": torch.is_grad_enabled(),
        }

    before = state()
    assert live.evaluate(model, step=1, epoch=None) is not None
    after = state()
    assert heard
    for key, value in before.items():
        if key in {"grads", "buffers"}:
            assert all(
                a is b is None or torch.equal(a, b) for a, b in zip(value, after[key], strict=True)
            )
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, after[key]), key
        else:
            assert value == after[key], key


def test_a_bad_image_is_an_error_line_and_training_goes_on(tmp_path):
    """What cannot be read is counted and told; all other samples are evaluated."""
    folder = tmp_path / "data"
    shutil.copytree(SCENES.parent / "images", folder / "images")
    lines = SCENES.read_text().splitlines()[:4]
    (folder / "scenes.jsonl").write_text("\n".join(lines) + "\n")
    (folder / json.loads(lines[1])["image"]).write_bytes(b"no image")
    notes = []
    trainer = trained(
        tmp_path / "out",
        callbacks=lambda model: [
            callback(model, data=folder / "scenes.jsonl", notify=notes.append)
        ],
    )
    rows = rollout_rows(trainer)
    assert [row["eval_rollout/samples/errors"] for row in rows] == [1, 1]
    assert [row["eval_rollout/samples/total"] for row in rows] == [4, 4]
    assert any("1 of 4 rollouts are error lines" in note for note in notes)


def test_a_failed_evaluation_is_told_and_training_goes_on(tmp_path, monkeypatch):
    """Whatever an evaluation raises costs that evaluation alone, and the model is put back."""
    from coordeval.training.rollout_eval import live_evaluator

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    plain = trained(tmp_path / "plain")
    monkeypatch.setattr(live_evaluator, "score_folder", full)
    notes = []
    trainer = trained(
        tmp_path / "out",
        callbacks=lambda model: [callback(model, notify=notes.append, best_metric="f1/0.50/f1")],
    )
    assert rollout_rows(trainer) == [] and same_weights(trainer, plain)
    assert sum("No space left" in note for note in notes) == 2
    assert not (tmp_path / "out" / "best.json").exists()


BAD = {
    "no such option": ({"decode": {"max_new_token": 5}}, ConfigError, "did you mean max_new_tok"),
    "wrong type": ({"decode": {"max_new_tokens": "5"}}, ConfigError, "must be int"),
    "out of range": ({"decode": {"top_p": 3.0}}, ConfigError, "top-p"),
    "engine's option": ({"decode": {"dtype": "bf16"}}, ConfigError, "process or vllm"),
    "no data": ({"data": Path("absent.jsonl")}, DataError, "absent"),
    "no images": ({"image_root": Path("/")}, DataError, "images"),
    "dialect": ({"dialect": "nonsense"}, ConfigError, "nonsense"),
    "prompt": ({"prompt": "absent.toml"}, ConfigError, "absent.toml"),
    "telemetry": (
        {"dialect": "coordjson-int", "decode": {"telemetry": True}},
        ConfigError,
        "telemetry|unknown dialect",
    ),
    "batch": ({"batch_size": 0}, ConfigError, "batch_size"),
}


@pytest.mark.parametrize("name", BAD)
def test_misconfiguration_is_refused_before_the_first_step(name, tmp_path):
    """A mistake is told at the start, not after hours, even where only the end is evaluated."""
    options, error, words = BAD[name]
    model = tiny_model()
    notes = []
    trainer = make_trainer(
        tmp_path, model, [callback(model, every=0, notify=notes.append, **options)]
    )
    with pytest.raises(error, match=words):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_tokenizer_without_coordinate_tokens_is_refused(tmp_path):
    """Rollouts of such a model could hold nothing to score."""
    from dataclasses import replace

    from coordeval.training.tiny.model import tiny_tokenizer
    from coordeval.training.tiny.processor import CHAT_TEMPLATE

    model = tiny_model()
    bare = tiny_tokenizer(["red circle"], coordinates=False)
    bare.chat_template = CHAT_TEMPLATE
    reader = replace(reader_of(model), tokenizer=bare)
    with pytest.raises(CheckpointError):
        make_trainer(tmp_path, model, [callback(model, processor=reader)]).train()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "magic"}, "engine"),
        ({"every": -1}, "negative"),
        ({"best_metric": "f1/0.50/f2"}, "no metric"),
        ({"best_metric": "parse/objects_found"}, "neither more nor less"),
    ],
)
def test_nonsense_is_refused_where_it_is_written(options, words):
    """What needs neither model nor data to be seen is an error of the constructor."""
    with pytest.raises(ConfigError, match=words):
        callback(tiny_model(), **options)


def test_the_parts_of_a_processor_may_come_from_anywhere(tmp_path):
    """Parts, a processor object, a checkpoint folder and the trainer's own are all the same."""
    from types import SimpleNamespace

    from coordeval.training.rollout_eval.callback import RolloutEvalCallback
    from coordeval.training.rollout_eval.live_checkpoint import save_live

    model = tiny_model()
    reader = reader_of(model)
    saved = tmp_path / "saved"
    save_live(model, reader, saved, trainer=None, main=True)
    processor = SimpleNamespace(tokenizer=reader.tokenizer, image_processor=reader.image_processor)
    parts = {"tokenizer": reader.tokenizer, "image_processor": reader.image_processor}
    texts = []
    for number, given in enumerate(
        ({"processor": processor}, parts, {"processor": saved}, {"processor": str(saved)})
    ):
        folder = tmp_path / str(number)
        made = RolloutEvalCallback(
            SCENES, limit=2, decode={"max_new_tokens": 12}, every=4, notify=lambda _: None, **given
        )
        make_trainer(folder, tiny_model(), [made]).train()
        run = folder / "eval" / "step_000004"
        texts.append(written(run))
    assert all(text == texts[0] for text in texts)
    bare = RolloutEvalCallback(SCENES)
    with pytest.raises(ConfigError, match="processor"):
        make_trainer(tmp_path / "none", tiny_model(), [bare]).train()


def test_an_adapter_is_merged_for_others_and_stays_as_it_is(tmp_path):
    """A whole checkpoint of an adapted model writes what the model itself writes."""
    from coordeval.engines.checkpoint import resolve_checkpoint
    from coordeval.engines.hf_loading import load_model
    from coordeval.training.rollout_eval.live_checkpoint import save_live

    model = _lora(tiny_model())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_live(model, reader_of(model), tmp_path / "whole", trainer=None, main=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    loaded = load_model(
        resolve_checkpoint(str(tmp_path / "whole")), device=torch.device("cpu"), dtype=torch.float32
    )
    item = {k: v for k, v in Scenes(reader_of(model), 1)[0].items() if k != "labels"}
    with torch.no_grad():
        ours, theirs = model.eval()(**item).logits, loaded(**item).logits
        plain = model.get_base_model()
        with model.disable_adapter():
            without = plain(**item).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, without, atol=1e-2)


def test_samples_in_memory_are_evaluated_too(tmp_path):
    """A list of samples with image paths does as well as a file."""
    from coordeval.data.dataset import open_dataset

    samples = list(open_dataset(SCENES))[:3]
    trainer = trained(
        tmp_path, callbacks=lambda model: [callback(model, data=samples, notify=lambda _: None)]
    )
    assert rollout_rows(trainer)[0]["eval_rollout/samples/total"] == 3


def test_an_interrupted_evaluation_is_gone_on_with(tmp_path):
    """The lines that are there are kept for the same weights, and set aside for others."""
    trainer = trained(tmp_path, callbacks=lambda model: [callback(model, every=4)])
    run = tmp_path / "eval" / "step_000004"
    path = run / "rollouts.jsonl"
    whole = [json.loads(line) for line in path.read_text().splitlines()]
    first = {**whole[0], "seconds": 123.0}
    path.write_text(json.dumps(first) + "\n" + '{"id": "00')
    again = trained(tmp_path, callbacks=lambda model: [callback(model, every=4)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == [line["text"] for line in whole]
    assert lines[0]["seconds"] == 123.0  # was not done again
    assert same_weights(again, trainer)
    notes = []
    trained(
        tmp_path,
        callbacks=lambda model: [callback(model, every=4, notify=notes.append)],
        learning_rate=2e-2,
    )
    assert any("other weights" in note for note in notes)
    assert (tmp_path / "eval" / "step_000004.old-1" / "run.json").exists()


def test_a_resumed_training_goes_on_evaluating(tmp_path):
    """Interrupted at step 2 and resumed, the run directories are those of one go."""
    args = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    whole = trained(tmp_path / "whole", callbacks=lambda model: [callback(model)], **args)
    folder = tmp_path / "cut"
    trained(folder, callbacks=lambda model: [callback(model)], max_steps=2, **args)
    model = tiny_model()
    trainer = make_trainer(folder, model, [callback(model, at_start=True)], **args)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert [row["step"] for row in rollout_rows(trainer)] == [2, 4]
    assert same_weights(trainer, whole)
    for step in (2, 4):
        texts = [written(out / "eval" / f"step_{step:06d}") for out in (tmp_path / "whole", folder)]
        assert texts[0] == texts[1]


def test_early_stopping_is_evaluated_at_its_last_step(tmp_path):
    """The end is where training ends, once, under the step it ended at."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 3

    for order in (0, 1):
        trainer = trained(
            tmp_path / str(order),
            callbacks=lambda model, order=order: [Stop(), callback(model, every=0)][
                :: -1 if order else 1
            ],
        )
        assert [row["step"] for row in rollout_rows(trainer)] == [3]


def test_nothing_is_evaluated_once_training_is_being_stopped(tmp_path):
    """A machine that is taken away leaves no time for a rollout."""
    trainer = trained(tmp_path, callbacks=lambda model: [callback(model, stopped=lambda: True)])
    assert rollout_rows(trainer) == []


@pytest.mark.parametrize("finished", [0, 2])
def test_an_evaluation_that_was_stopped_goes_on_with_the_training(tmp_path, finished):
    """It ends after its batch; the resumed training finishes it first, under the same step."""
    from transformers import TrainerCallback

    asked = []

    def stopped():
        asked.append(1)
        return len(asked) > 1 + finished

    class SaveAndStop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_save = control.should_training_stop = True

    args = {"save_strategy": "steps", "save_steps": 500, "lr_scheduler_type": "constant"}
    whole = trained(tmp_path / "whole", callbacks=lambda m: [callback(m, every=1)], **args)
    folder, notes = tmp_path / "cut", []
    options = {"every": 1, "batch_size": 1, "stopped": stopped, "notify": notes.append}
    cut = trained(folder, callbacks=lambda m: [callback(m, **options), SaveAndStop()], **args)
    assert rollout_rows(cut) == [] and any("being stopped" in note for note in notes)
    assert cut.state.global_step == 1
    lines = folder / "eval" / "step_000001" / "rollouts.jsonl"
    before = lines.read_bytes()
    assert len(before.splitlines()) == finished
    model = tiny_model()
    trainer = make_trainer(folder, model, [callback(model, every=1)], **args)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    assert [row["step"] for row in rollout_rows(trainer)] == [1, 2, 3, 4]
    assert lines.read_bytes().startswith(before)
    assert same_weights(trainer, whole)
    for step in range(1, 5):
        runs = [out / "eval" / f"step_{step:06d}" for out in (tmp_path / "whole", folder)]
        assert written(runs[0]) == written(runs[1])


def test_no_trainer_found_still_fills_the_history(tmp_path):
    """Called by hand, the numbers go where a Trainer would look for them."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    model = tiny_model()
    made = callback(model, every=1)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    state, control = TrainerState(max_steps=9), TrainerControl()
    made.on_train_begin(args, state, control, model=model)
    state.global_step = 1
    made.on_step_end(args, state, control, model=model)
    assert [row["step"] for row in state.log_history] == [1]
    assert len(Scenes(reader_of(model))) == 8


def test_progress_goes_to_stderr_alone(tmp_path, capfd):
    """Standard output belongs to whoever trains; warnings are one line each."""
    trained(tmp_path, callbacks=lambda model: [callback(model, every=4)], max_steps=4)
    captured = capfd.readouterr()
    assert "max-new-tokens 24 is too small" in captured.err
    assert "max-new-tokens" not in captured.out
