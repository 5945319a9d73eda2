"""Where the recipes on synthetic scenes start: scenes as files, and an untrained tiny Qwen3-VL.

`python recipes/shapes_start.py OUT` writes `OUT/scenes/{train,eval}.jsonl` with their images and
`OUT/start`, a checkpoint of 1.4 M random weights. The same arguments give the same bytes; about
2 ms per scene. The recipes call this themselves.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.data.synthetic import SceneSpec, write_scenes

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAIN = SceneSpec(name="train", min_size=0.2, empty_rate=0.06)
EVAL = SceneSpec(name="eval", min_size=0.2, empty_rate=0.06)
# Scenes of the fixtures, of evaluation and of training lie millions of seeds apart.
TRAIN_SEED, EVAL_SEED = 1_000_000, 500


def write_data(out: Path, *, train: int, evaluation: int, seed: int = 0) -> Path:
    """Write both splits below `out/scenes`, and return that folder; existing ones are kept.

    `seed` chooses other training scenes; the evaluation scenes are always the same.
    """
    folder = out / "scenes"
    wanted = {"train": (TRAIN, train, TRAIN_SEED + seed), "eval": (EVAL, evaluation, EVAL_SEED)}
    for name, (spec, count, first) in wanted.items():
        if _lines(folder / f"{name}.jsonl") != count:
            write_scenes(spec, folder, count, first)
    return folder


def _lines(path: Path) -> int | None:
    return len(path.read_bytes().splitlines()) if path.exists() else None


def write_start(out: Path, *, seed: int = 0) -> Path:
    """Write the untrained checkpoint to `out/start`, and return it."""
    from transformers.utils import logging

    from coordeval.training.tiny.model import (
        TinyConfig,
        build_model,
        save_checkpoint,
        tiny_tokenizer,
    )

    logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    config = TinyConfig()
    tokenizer = tiny_tokenizer(TRAIN.classes)
    model = build_model(config, tokenizer, seed=seed)
    return save_checkpoint(model, tokenizer, config.vision, out / "start")


def main(given: Sequence[str] | None = None) -> None:
    """Write what is asked for, and say where."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=4000, metavar="SCENES")
    parser.add_argument("--eval", type=int, default=64, metavar="SCENES")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(given)
    print(write_data(chosen.out, train=chosen.train, evaluation=chosen.eval, seed=chosen.seed))
    print(write_start(chosen.out, seed=chosen.seed))


if __name__ == "__main__":
    main()
