"""Losses that are not finite, data that cannot be read, arguments that are refused."""

import errno
import json
import math
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file
from stage1_setup import SCENES, config, launched, rows, scenes, spread, tiny_base, weights
from test_stage1_invariants import ELEVEN, WORKER
from transformers import TrainerCallback

from coordeval.errors import ConfigError, DataError
from coordeval.training.config_file import config_hash, config_yaml
from coordeval.training.loop.arguments import OWN, check_processes, training_arguments
from coordeval.training.loop.checkpoints import why_incomplete
from coordeval.training.loop.nonfinite import TrainingDiverged
from coordeval.training.loop.train_log import LogNotWritten
from coordeval.training.stage1 import check_stage1, train_stage1


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained checkpoint."""
    return tiny_base(tmp_path_factory.mktemp("base") / "base")


class Poison(TrainerCallback):
    """Makes a weight infinite before a step's forward passes, or a gradient after them."""

    def __init__(self, step, *, gradient=False):
        self.step, self.gradient = step, gradient

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step + 1 == self.step:
            head = model.get_output_embeddings().weight
            if self.gradient:
                head.register_hook(lambda g: torch.full_like(g, math.nan))
            else:
                head.data[5] = math.nan


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [False, True])
def test_a_step_that_is_not_finite_stops_the_run(gradient, base, tmp_path):
    """Exit code 3, the batch's ids and a dump; the last checkpoint is whole; no line is logged."""
    settings = config(base, tmp_path / "run", trainer={"save_strategy": "steps", "save_steps": 1})
    with pytest.raises(TrainingDiverged) as caught:
        train_stage1(settings, callbacks=[Poison(3, gradient=gradient)])
    assert caught.value.exit_code == 3
    dump = json.loads((tmp_path / "run/nonfinite/step_000003.json").read_text())
    assert dump["step"] == 3 and len(dump["suspect_ids"]) == 2
    assert all(repr(name) in str(caught.value) for name in dump["suspect_ids"])
    assert dump["grad_norm"] == "nan" and (dump["loss"] == "nan") is not gradient
    assert set(dump["term_sums"]) == {"text_ce", "hard_ce", "soft_ce", "w1", "gate"}
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2]
    assert why_incomplete(tmp_path / "run/checkpoint-2") is None
    assert not (tmp_path / "run/checkpoint-3").exists()
    values = weights(tmp_path / "run/checkpoint-2").values()
    assert all(bool(torch.isfinite(value).all()) for value in values)


@pytest.mark.slow
def test_an_image_that_breaks_in_an_epoch_is_counted(base, tmp_path):
    """An unreadable image is left out of its step and counted there; the training goes on."""
    data = scenes(tmp_path / "some.jsonl", ELEVEN[:6])
    bad = tmp_path / "images"
    bad.mkdir()
    for line in (tmp_path / "some.jsonl").read_text().splitlines():
        name = json.loads(line)["image"].split("/")[-1]
        content = (SCENES.parent / "images" / name).read_bytes()
        (bad / name).write_bytes(content if "0003" not in name else content[:60])
    data["image_root"] = str(tmp_path)
    done = train_stage1(config(base, tmp_path / "run", data=data))
    steps = rows(tmp_path / "run")
    assert done.step == 3
    assert sum(row["skipped"] for row in steps) == 1
    assert sum(row["samples"] for row in steps) == 5


@pytest.mark.slow
def test_too_many_unreadable_images_stop_the_run(base, tmp_path):
    """More than data.max_unreadable broken images is a fault of the data, not a silent loss."""
    data = scenes(tmp_path / "some.jsonl", ELEVEN[:6])
    (tmp_path / "images").mkdir()
    for number, line in enumerate((tmp_path / "some.jsonl").read_text().splitlines()):
        name = json.loads(line)["image"].split("/")[-1]
        content = (SCENES.parent / "images" / name).read_bytes()
        (tmp_path / "images" / name).write_bytes(b"no image" if number else content)
    data |= {"image_root": str(tmp_path), "max_unreadable": 2}
    with pytest.raises(DataError, match=r"3 samples could not be read .*max_unreadable"):
        train_stage1(config(base, tmp_path / "run", data=data))


@pytest.mark.parametrize("name", sorted(OWN))
def test_arguments_set_elsewhere_are_refused_with_the_reason(name, tmp_path):
    """Every argument that is ours says why it cannot stand under trainer:."""
    with pytest.raises(ConfigError, match=f"trainer.{name} cannot be set here: "):
        training_arguments(config("model", tmp_path, trainer={name: 1}))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"learning_rat": 1.0}, "did you mean trainer.learning_rate"),
        ({"learning_rate": "fast"}, "must be a number, not 'fast'"),
        ({"gradient_accumulation_steps": 0}, "whole number from 1"),
        ({"per_device_eval_batch_size": 0}, "whole number from 1"),
        ({"gradient_accumulation_steps": 2.0}, "whole number, not 2.0"),
        ({"max_steps": "many"}, "must be a number, not 'many'"),
        ({"max_steps": "1.5"}, "whole number, not '1.5'"),
        ({"save_total_limit": True}, "must be a number, not True"),
        ({"learning_rate": -1}, "a number from 0, not -1"),
        ({"learning_rate": float("nan")}, "must be a number"),
        ({"dataloader_num_workers": -1}, "whole number from 0"),
        ({"eval_strategy": "steps"}, "set data.eval"),
        ({"lr_scheduler_type": "zigzag"}, "zigzag"),
        ({"train_sampling_strategy": "group_by_length"}, "not one of random, sequential"),
    ],
)
def test_wrong_arguments_are_refused(given, says, tmp_path):
    """Unknown names, wrong values and contradictions say what is wrong."""
    with pytest.raises(ConfigError, match=says):
        training_arguments(config("model", tmp_path, trainer=given))


def test_yaml_numbers_in_text_are_read(tmp_path):
    """`learning_rate: 1e-4`, which YAML takes for text, is the number; evaluation is per epoch."""
    settings = config(
        "model", tmp_path, data={"eval": "eval.jsonl"}, trainer={"learning_rate": "1e-4"}
    )
    args = training_arguments(settings)
    assert args.learning_rate == 1e-4
    assert args.eval_strategy == "epoch"
    assert settings.trainer["learning_rate"] == "1e-4"  # the configuration itself is not changed


def test_values_that_yaml_misreads_are_what_they_were_meant_to_be(tmp_path):
    """Exponents without a point, also of the schedule, and a bare `no`."""
    given = yaml.safe_load(
        """
        save_strategy: no
        eval_strategy: no
        max_steps: 1e3
        adam_beta2: 95e-2
        lr_scheduler_type: cosine_with_min_lr
        lr_scheduler_kwargs: {min_lr: 1e-6}
        """
    )
    settings = config("model", tmp_path, data={"eval": "eval.jsonl"}, trainer=given)
    args = training_arguments(settings)
    assert (args.save_strategy, args.eval_strategy) == ("no", "no")
    assert args.max_steps == 1000 and isinstance(args.max_steps, int)
    assert args.adam_beta2 == 0.95
    assert args.lr_scheduler_kwargs == {"min_lr": 1e-6}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"optim": "adamw_8bit"}, "bitsandbytes"),
        ({"save_strategy": "best"}, "metric_for_best_model"),
        ({"dataloader_drop_last": True, "per_device_train_batch_size": 9}, "leaves no batch"),
    ],
)
def test_what_the_library_refuses_late_is_a_fault_of_the_configuration(given, says, base, tmp_path):
    """Missing packages, contradictions and a training without a step end as ConfigError."""
    with pytest.raises(ConfigError, match=says):
        train_stage1(config(base, tmp_path / "run", trainer=given))


def test_processes_that_would_train_alone_are_refused(monkeypatch):
    """Two processes of a launcher that do not know of each other: a fault, with the remedy."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(1)  # not started by a launcher
    monkeypatch.setenv("LOCAL_RANK", "0")
    check_processes(2)
    with pytest.raises(ConfigError, match=r"trainer\.use_cpu: true"):
        check_processes(1)


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="trains on the accelerator")
def test_a_launcher_needs_no_word_about_the_cpu(base, tmp_path):
    """Without an accelerator, two processes share a training that says nothing of devices."""
    settings = config(base, tmp_path / "run", trainer={"max_steps": 1})
    del settings.trainer["use_cpu"]
    path = tmp_path / "run.yaml"
    path.write_text(config_yaml(settings))
    done = launched(WORKER, path)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run")[0]["samples"] == 4


def test_tables_that_the_library_rewrites_are_not_ours(tmp_path):
    """It fills fsdp_config in; the configuration, by which a resume tells its folder, stays."""
    table = {"transformer_layer_cls_to_wrap": "Qwen3VLTextDecoderLayer"}
    settings = config("model", tmp_path, trainer={"fsdp": True, "fsdp_config": dict(table)})
    before = config_hash(settings)
    args = training_arguments(settings)
    assert args.fsdp_config != table
    assert settings.trainer["fsdp_config"] == table
    assert config_hash(settings) == before


@pytest.mark.slow
def test_a_dry_run_writes_nothing(base, tmp_path):
    """A dry run gives the first step's loss and what would be trained, without any file."""
    settings = config(base, tmp_path / "new" / "run")
    found = check_stage1(settings)
    assert not list(tmp_path.iterdir())
    assert (found["steps"], found["steps_per_epoch"], found["samples"]) == (4, 4, 8)
    train_stage1(settings)
    first = rows(tmp_path / "new" / "run")[0]
    assert first["loss"] == pytest.approx(found["loss"], rel=1e-6)


@pytest.mark.slow
def test_a_dry_run_does_not_call_broken_weights_ready(base, tmp_path):
    """A first loss that is not finite is said before hours are booked."""
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    tensors = weights(base)
    name = next(name for name in tensors if "mlp.up_proj" in name)
    tensors[name][0, 0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingDiverged, match="first batch's loss is nan"):
        check_stage1(config(broken, tmp_path / "run"))


@pytest.mark.slow
def test_a_disk_that_is_full_between_checkpoints_is_one_line(base, tmp_path):
    """Whatever cannot be written while training ends it with the remedy, not as a bug."""

    class Full(TrainerCallback):
        def on_log(self, args, state, control, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LogNotWritten, match=r"No space left.*--resume auto"):
        train_stage1(config(base, tmp_path / "run"), callbacks=[Full()])


@pytest.mark.slow
def test_a_process_that_diverges_stops_all(base, tmp_path):
    """Two processes and a learning rate that breaks the weights: both end, ids of both are named."""
    data = scenes(tmp_path / "some.jsonl", ELEVEN[:8])
    settings = config(
        base,
        tmp_path / "run",
        data=data,
        trainer={
            "learning_rate": 1e30,
            "max_grad_norm": 0.0,
            "num_train_epochs": 4,
            "optim": "sgd",
        },
    )
    path = tmp_path / "run.yaml"
    path.write_text(config_yaml(settings))
    done = spread(WORKER, path)
    assert done.returncode != 0
    assert "TrainingDiverged" in done.stderr
    (dump,) = (tmp_path / "run/nonfinite").iterdir()
    assert len(json.loads(dump.read_text())["batches"]) == 2
