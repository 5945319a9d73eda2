"""A small Qwen3-VL from scratch on real photos of blood cells: `python recipes/bccd.py`.

Needs the BCCD photos below the folder that COORDEVAL_DATA names (`bccd/instances_all.json` with a
`split` on each image, `bccd/images`). Writes views of the 205 training photos and an untrained
model, trains it by `coordeval train recipes/bccd.yaml` with rollouts on the validation split, then
lets the best checkpoint write freely for the 72 test photos, whole and unseen, and scores that.

Written for less than an hour of one core; `--set trainer.max_steps=60` and the like shorten every
phase. Nothing but the training photos is learned from, no other weights, no other images: the
scenes of the first two phases are put together from cells that are cut out of these photos.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bccd_pasted import CROWD, FEW, write_pasted
from bccd_views import by_left, write_views
from shown_command import coordeval
from training_curve import curve_table, read_curve

from coordeval.errors import ConfigError, CoordevalError
from coordeval.jsonl import dump_line, load_json
from coordeval.reports.console import result_console
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "bccd.yaml"
OUT = HERE.parent / "runs" / "bccd"
CLASSES = ("RBC", "WBC", "Platelets")
SPLITS = ("train", "val", "test")
STRUCTURE = ('{"objects": [{"desc": "', '", "bbox_2d": [', ", ", ']}, {"desc": "', "]}]}")
# Of the training photos, which are pale.
MEAN, STD = (0.737, 0.696, 0.715), (0.060, 0.101, 0.074)
PIXELS = "4096:28000"
MAX_NEW_TOKENS = "360"
PROMPT = HERE / "bccd_prompt.toml"


class Phase(NamedTuple):
    """A training on one kind of views, that goes on from the weights of the one before it.

    `sigma`: width of the soft targets in bins. The learning rates fall to `last_rate` of theirs.
    """

    name: str
    views: str
    steps: int
    batch: int
    every: int
    sigma: int
    last_rate: float


# Where things are is learned from few cells that lie apart, within 300 steps; as many on crops of
# photos had not taught it. Targets are wide where cells are large against the view.
PHASES = (
    Phase("1-pasted", "pasted", 600, 16, 300, 20, 0.02),
    Phase("2-crowd", "crowd", 500, 8, 250, 10, 0.3),
    Phase("3-photos", "photos", 3000, 8, 500, 8, 1.0),
    Phase("4-photos", "photos", 1500, 8, 500, 8, 0.02),
)


def photos() -> Path:
    """The folder of the BCCD data; ConfigError where it is not there."""
    root = os.environ.get("COORDEVAL_DATA")
    if root is None or not (Path(root) / "bccd" / "instances_all.json").exists():
        raise ConfigError("COORDEVAL_DATA must name a folder with bccd/instances_all.json")
    return Path(root).resolve() / "bccd"


def write_splits(source: Path, out: Path) -> None:
    """The COCO file of all photos as one file per split."""
    out.mkdir(parents=True, exist_ok=True)
    whole = load_json((source / "instances_all.json").read_bytes())
    for split in SPLITS:
        images = [image for image in whole["images"] if image["split"] == split]
        ids = {image["id"] for image in images}
        part = {
            "images": images,
            "annotations": [a for a in whole["annotations"] if a["image_id"] in ids],
            "categories": whole["categories"],
        }
        (out / f"{split}.json").write_bytes(dump_line(part))


def write_start(out: Path, *, seed: int) -> Path:
    """The untrained checkpoint: eyes a little larger than those of the shapes models.

    What stands between coordinates is one token each, so that a cell costs 10 tokens instead of 23.
    """
    from tokenizers import AddedToken
    from transformers.utils import logging

    from coordeval.training.tiny.model import (
        TinyConfig,
        build_model,
        save_checkpoint,
        tiny_tokenizer,
    )
    from coordeval.training.tiny.processor import TinyVision

    logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    config = TinyConfig(
        vision_depth=3,
        vision_hidden=96,
        vision_feed_forward=288,
        grid=16,
        rope_theta=5e6,
        vision=TinyVision(min_pixels=64 * 64, max_pixels=192 * 192, mean=MEAN, std=STD),
    )
    tokenizer = tiny_tokenizer(CLASSES)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in STRUCTURE])
    model = build_model(config, tokenizer, seed=seed)
    return save_checkpoint(model, tokenizer, config.vision, out / "start")


def write_data(out: Path, source: Path, *, per_photo: int, seed: int) -> None:
    """The phases' views below `out`, each kind with some of validation photos to watch it by."""
    images = source / "images"
    for name, split, plan, count in (
        ("pasted", "train", FEW, 12_000),
        ("pasted-val", "val", FEW, 64),
        ("crowd", "train", CROWD, 8_000),
        ("crowd-val", "val", CROWD, 64),
    ):
        if not (out / f"{name}.jsonl").exists():
            places = out / f"{split}.json", images, out
            write_pasted(*places, plan=plan, name=name, count=count, seed=seed, order=by_left)
    for name, split, count in (("photos", "train", per_photo), ("photos-val", "val", 0)):
        if not (out / f"{name}.jsonl").exists():
            places = out / f"{split}.json", images, out
            write_views(*places, name=name, per_photo=count, seed=seed)


def prepare(out: Path, *, per_photo: int, seed: int) -> Path:
    """Data and start below `out`, unless they are there; the folder of the photos."""
    source = photos()
    data = out / "data"
    write_splits(source, data)
    write_data(data, source, per_photo=per_photo, seed=seed)
    if not (out / "start").exists():
        write_start(out, seed=seed)
    return source


def phase_changes(phase: Phase, out: Path, source: Path, model: Path) -> list[str]:
    """What of the configuration is a phase's own."""
    data, name = out / "data", phase.views
    changes: dict[str, object] = {
        "model": model,
        "output_dir": out / phase.name,
        "data.train": data / f"{name}.jsonl",
        "data.eval": data / f"{name}-val.jsonl",
        "rollout_eval.every": phase.every,
        "objective.sigma": phase.sigma,
        "objective.truncate": 4 * phase.sigma,
        "trainer.max_steps": phase.steps,
        "trainer.eval_steps": phase.every,
        "trainer.save_steps": phase.every,
        "trainer.per_device_train_batch_size": phase.batch,
        "trainer.lr_scheduler_kwargs.min_lr_rate": phase.last_rate,
    }
    if name == "photos":  # the files themselves, as in the test
        places = {"data": data / "val.json", "image_root": source / "images"}
        changes |= {f"rollout_eval.{key}": path for key, path in places.items()}
    return [f"{key}={value}" for key, value in changes.items()]


def train(out: Path, source: Path, changes: Sequence[str]) -> Path:
    """Train phase by phase, or go on with what was stopped; the last phase's run folder."""
    model = out / "start"
    for phase in PHASES:
        run = out / phase.name
        if finished(run) is None:
            given = [*phase_changes(phase, out, source, model), *changes]
            coordeval("train", CONFIG, *(part for change in given for part in ("--set", change)))
        result_console().print(curve_table(read_curve(run)))
        model = finished(run) or run
    return out / PHASES[-1].name


def finished(run: Path) -> Path | None:
    """The last checkpoint of a training that took all its steps; None for any other."""
    for state in run.glob("checkpoint-*/trainer_state.json"):
        values = load_json(state.read_bytes())
        if values["global_step"] >= values["max_steps"]:
            return state.parent
    return None


def test(out: Path, source: Path, checkpoint: Path) -> None:
    """Roll a checkpoint out on the test photos, and score it."""
    target = out / "test"
    shutil.rmtree(target, ignore_errors=True)
    places = ("--data", out / "data" / "test.json", "--image-root", source / "images")
    reads = ("--prompt", PROMPT, "--pixels", PIXELS)
    limits = ("--max-new-tokens", MAX_NEW_TOKENS, "--batch-size", "24")
    coordeval("rollout", checkpoint, *places, *reads, *limits, "--out", target)
    coordeval("score", target)


def main(given: Sequence[str] | None = None) -> None:
    """Prepare, train, test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--views", type=int, default=60, help="views of each photo")
    parser.add_argument("--seed", type=int, default=17, help="of the views and the untrained model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    chosen = parser.parse_args(given)
    out = chosen.out.resolve()
    try:
        source = prepare(out, per_photo=chosen.views, seed=chosen.seed)
        started = time.monotonic()
        run = train(out, source, chosen.changes)
        print(f"training with its evaluations {(time.monotonic() - started) / 60:.1f} minutes")
        test(out, source, run / "best")
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
