"""What the loop guard saves on a checkpoint that loops: free decoding against `--guard stop`.

The fixture checkpoint `ckpt-loops` writes held-out scenes through the Hugging Face engine, free and
guarded in turn, with the model already loaded; both runs are scored. In a batch, a row that ends
early waits for the others, so both a batch of 1 and one of 16 are shown.

    python benchmarks/bench_guard_saving.py
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench_engine_overhead import SCENES, hf_engine
from rounds import INTERVAL_NOTE, ratio_of, side_by_side
from script import run_script
from tables import Table

if TYPE_CHECKING:
    import argparse

    from tables import Cell

    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.records import Sample

SHOWN = ("dup/loop_rate", "f1/0.50/f1", "f1/0.50/recall", "coco/AP")
CHECKPOINT = SCENES.parent.parent / "ckpt-loops"
BATCHES = (1, 16)
FREE, GUARDED = "free", "guarded"


def roll_out(engine: Engine, samples: list[Sample], decode: DecodeSettings, out: Path) -> None:
    """One run of all samples."""
    from coordeval.engines.runner import run_rollouts
    from coordeval.parsers.dialects import dialect_named

    run_rollouts(
        engine,
        samples,
        out=out,
        identity={"checkpoint": {"name": CHECKPOINT.name}},
        extra={},
        decode=decode,
        dialect=dialect_named("coordjson"),
    )


def measure(options: argparse.Namespace) -> list[Table]:
    """Both batch sizes, in tokens, seconds and quality."""
    from coordeval.data.dataset import open_dataset
    from coordeval.decoding.settings import GuardSettings
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.checkpoint import resolve_checkpoint
    from coordeval.metrics.score import score_run
    from coordeval.runs import open_run

    samples = list(open_dataset(SCENES))[: options.images]
    decodes = {
        FREE: DecodeSettings(max_new_tokens=options.tokens),
        GUARDED: DecodeSettings(max_new_tokens=options.tokens, guard=GuardSettings(mode="stop")),
    }
    checkpoint, numbers = resolve_checkpoint(str(CHECKPOINT)), itertools.count()

    def work(engine: Engine, decode: DecodeSettings, folder: Path) -> Path:
        out = folder / str(next(numbers))
        roll_out(engine, samples, decode, out)
        return out

    rows: list[tuple[Cell, ...]] = []
    for batch in BATCHES:
        with tempfile.TemporaryDirectory() as name:
            works = {
                kind: partial(work, hf_engine(checkpoint, decode, batch), decode, Path(name))
                for kind, decode in decodes.items()
            }
            times = side_by_side(works, options.rounds, warm_up=1)
            scored = {kind: score_run(open_run(roll())).metrics for kind, roll in works.items()}
        rows.extend(
            (
                f"batch {batch}, {kind}",
                metrics["tokens/total"],
                ratio_of(times, FREE, kind),
                *(metrics[key] for key in SHOWN),
            )
            for kind, metrics in scored.items()
        )
    return [
        Table(
            title=f"Loop guard on {CHECKPOINT.name}: {len(samples)} scenes, at most "
            f"{options.tokens} tokens",
            columns=(
                ("decoding", ""),
                ("tokens", ",.0f"),
                ("CPU, free over this", ".2f"),
                ("loop rate", ".3f"),
                ("F1@.50", ".3f"),
                ("recall@.50", ".3f"),
                ("AP", ".3f"),
            ),
            rows=tuple(rows),
            notes=(
                "The whole rollout with its run directory, without loading the model.",
                INTERVAL_NOTE,
            ),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How much, how often."""
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    quick = {"images": 4, "tokens": 200, "rounds": 1}
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick=quick))
