"""A small Qwen3-VL from scratch on real photos of blood cells: `python recipes/bccd.py`.

Needs the BCCD photos below the folder that COORDEVAL_DATA names (`bccd/instances_all.json` with a
`split` on each image, `bccd/images`). Writes views of the 205 training photos and an untrained
model, trains it by `coordeval train recipes/bccd.yaml` with rollouts on the validation split, then
lets the best checkpoint write freely for the 72 test photos, whole and unseen, and scores that.

Written for an hour on two cores; `--set trainer.max_steps=600` and the like shorten it. Nothing but
the training photos is learned from: no other weights, no other images.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bccd_views import write_views
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
PIXELS = "27648:28000"
MAX_NEW_TOKENS = "900"


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
    """The untrained checkpoint: eyes a little larger than those of the shapes models."""
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
        vision=TinyVision(min_pixels=64 * 64, max_pixels=192 * 192),
    )
    tokenizer = tiny_tokenizer(CLASSES)
    model = build_model(config, tokenizer, seed=seed)
    return save_checkpoint(model, tokenizer, config.vision, out / "start")


def prepare(out: Path, *, per_photo: int, seed: int) -> Path:
    """Data and start below `out`, unless they are there; the folder of the photos."""
    source = photos()
    data = out / "data"
    write_splits(source, data)
    if not (data / "train.jsonl").exists():
        write_views(data / "train.json", source / "images", data, per_photo=per_photo, seed=seed)
    if not (out / "start").exists():
        write_start(out, seed=seed)
    return source


def train(out: Path, source: Path, changes: Sequence[str]) -> Path:
    """Train, or go on with a training that was stopped; the run folder."""
    run = out / "stage1"
    places = (
        f"model={out / 'start'}",
        f"output_dir={run}",
        f"data.train={out / 'data' / 'train.jsonl'}",
        f"data.eval={out / 'data' / 'val.json'}",
        f"data.eval_image_root={source / 'images'}",
        *changes,
    )
    coordeval("train", CONFIG, *(part for change in places for part in ("--set", change)))
    return run


def test(out: Path, source: Path, checkpoint: Path) -> None:
    """Roll a checkpoint out on the test photos, and score it."""
    target = out / "test"
    shutil.rmtree(target, ignore_errors=True)
    places = ("--data", out / "data" / "test.json", "--image-root", source / "images")
    limits = ("--pixels", PIXELS, "--max-new-tokens", MAX_NEW_TOKENS, "--batch-size", "24")
    coordeval("rollout", checkpoint, *places, *limits, "--out", target)
    coordeval("score", target)


def main(given: Sequence[str] | None = None) -> None:
    """Prepare, train, test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--views", type=int, default=40, help="views of each photo")
    parser.add_argument("--seed", type=int, default=17, help="of the views and the untrained model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    chosen = parser.parse_args(given)
    out = chosen.out.resolve()
    try:
        source = prepare(out, per_photo=chosen.views, seed=chosen.seed)
        started = time.monotonic()
        run = train(out, source, chosen.changes)
        print(f"training with its evaluations {(time.monotonic() - started) / 60:.1f} minutes")
        result_console().print(curve_table(read_curve(run)))
        test(out, source, run / "best")
    except CoordevalError as error:
        print(printable(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
