"""A training on a full or read-only disk: one line, and the last checkpoint is what it was."""

from __future__ import annotations

import json

import pytest
from forked_commands import SCENES, files_of, shared_commands

TRAINER = {
    "use_cpu": True,
    "report_to": "none",
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "dataloader_pin_memory": False,
}


@pytest.fixture(scope="module")
def train_commands():
    """Commands of a process that can train."""
    pytest.importorskip("peft")
    return shared_commands(model=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny untrained checkpoint."""
    from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint

    folder = tmp_path_factory.mktemp("base") / "tiny"
    config = TinyConfig(hidden=32, layers=1, heads=2, head_dim=16, feed_forward=32)
    return write_random_checkpoint(
        folder, config=config, seed=0, class_names=("red circle", "blue square")
    )


def config(base, out, path):
    """A configuration file; JSON is YAML."""
    settings = {
        "model": str(base),
        "output_dir": str(out),
        "data": {"train": str(SCENES), "limit": 8},
        "trainer": TRAINER,
        "rollout_eval": {"at_end": False},
    }
    path.write_text(json.dumps({"stage": 1, **settings}))
    return path


def losses(out):
    rows = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.mark.slow
def test_a_training_on_a_full_disk_goes_on_when_there_is_room(train_commands, base, disk, tmp_path):
    """No room for the second checkpoint: exit code 3, one line; with room it ends as without."""
    whole = tmp_path / "whole"
    done = train_commands.run("train", config(base, whole, tmp_path / "whole.yaml"))
    assert done.code == 0, done.stderr
    size = sum(path.stat().st_size for path in (whole / "checkpoint-2").rglob("*"))
    with disk(f"{size * 3 // 2 // 1024}k") as small:
        out = small.path / "run"
        settings = config(base, out, tmp_path / "small.yaml")
        ended = train_commands.run("train", settings)
        assert ended.code == 3, ended.stderr
        assert ended.error.startswith(f"error: {out}/checkpoint-4: the checkpoint cannot be")
        assert "make room" in ended.error
        assert (out / "checkpoint-2").is_dir()
        assert not (out / "checkpoint-4").exists()
        small.grow("200m")
        ended = train_commands.run("train", settings, "--resume", "auto")
        assert ended.code == 0, ended.stderr
        assert losses(out) == losses(whole)
        name = "checkpoint-4/model.safetensors"
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_a_training_folder_that_cannot_be_written_is_told(train_commands, base, disk, tmp_path):
    """A read-only disk: exit code 2, before a model is loaded, and nothing is there."""
    with disk("1m") as small:
        small.forbid_writing()
        out = small.path / "run"
        ended = train_commands.run("train", config(base, out, tmp_path / "ro.yaml"))
        assert ended.code == 2
        assert ended.error.startswith(f"error: output_dir {out}: cannot be written: Read-only")
        assert files_of(small.path) == {}
