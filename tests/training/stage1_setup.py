"""Tiny trainings for tests: a model of 0.1 M parameters on a few synthetic scenes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from forked_scripts import run_ranks
from safetensors.torch import load_file

from coordeval.training.config import DataConfig, RolloutEvalConfig, TrainConfig
from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint
from coordeval.training.tiny.processor import TinyVision

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "fixtures" / "scenes" / "heldout.jsonl"
NAMES = ("red circle", "blue square", "green square", "yellow circle")


def tiny_base(folder, *, tied=True, seed=0, coordinates=True):
    """An untrained checkpoint in float32, so that a step is not lost in bfloat16's rounding."""
    config = TinyConfig(
        hidden=32,
        layers=1,
        heads=2,
        head_dim=16,
        feed_forward=32,
        vision_depth=1,
        vision_hidden=32,
        vision_heads=2,
        vision_feed_forward=32,
        tied=tied,
        init_std=0.1,
        coord_features=coordinates,
        vision=TinyVision(),
    )
    return write_random_checkpoint(
        folder, seed=seed, class_names=NAMES, config=config, coordinates=coordinates
    )


def config(base, out, *, data=None, trainer=None, **rest):
    """A configuration on the held-out scenes, on the CPU."""
    data = {"train": str(SCENES), "limit": 8} | (data or {})
    trainer = {
        "use_cpu": True,
        "report_to": "none",
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "learning_rate": 1e-3,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
    } | (trainer or {})
    rest.setdefault("rollout_eval", RolloutEvalConfig(at_end=False))
    return TrainConfig(
        model=str(base), output_dir=str(out), data=DataConfig(**data), trainer=trainer, **rest
    )


def rows(out, *, evaluations=False):
    """Step lines (or evaluation lines) of a run's log."""
    lines = (Path(out) / "train_log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if ("eval_loss" in row) == evaluations]


def weights(checkpoint):
    """Weights of a checkpoint folder by name."""
    return load_file(Path(checkpoint) / "model.safetensors")


def scenes(path, samples):
    """Write a dataset of chosen samples: ids of the held-out scenes, "ID/empty" without objects."""
    lines = {raw["id"]: raw for raw in map(json.loads, SCENES.read_text().splitlines())}
    with path.open("w") as handle:
        for sample in samples:
            name, _, empty = sample.partition("/")
            raw = dict(lines[name])
            raw["objects"] = [] if empty else raw["objects"]
            handle.write(json.dumps(raw) + "\n")
    return {"train": str(path), "image_root": str(SCENES.parent), "limit": None}


def _environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
    }


def spread(script, *arguments):
    """Run a Python file in two CPU processes: how they ended, with what both wrote.

    Forks with a launcher's variables, which cost a tenth of `launched`.
    """
    ranks = run_ranks(script, *arguments, env=_environment() | {"ACCELERATE_USE_CPU": "true"})
    codes = [done.returncode for done in ranks]
    return subprocess.CompletedProcess(
        ranks[0].args,
        next((code for code in codes if code), 0),
        "".join(done.stdout for done in ranks),
        "".join(done.stderr for done in ranks),
    )


def launched(script, *arguments):
    """Run a Python file under torch.distributed.run itself, in two processes; nothing says CPU."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            str(script),
            *map(str, arguments),
        ],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
