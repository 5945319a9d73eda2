"""Growth of stage 2: iterations of channel A and rows of its batch, rollouts of channel B.

Channel A runs on a model small enough that thirty-two times its smallest input is done in seconds.
Channel B's own work is timed, which is all but decoding and the pass over what came of it: reading
a rollout, matching what it wrote with the truth, and making the answer to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from growth_case import Case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from growth_case import Work

    from coordeval.records import Rollout, Sample

GRID = 30  # columns of boxes in a frame of 1000 bins
WRITTEN_PX = 27


def iterations(size: int, _: Path) -> Work:
    """A step of channel A with so many passes over one row, unrolled."""
    return _channel_a(iterations=size, rows=1)


def rows(size: int, _: Path) -> Work:
    """A step of two passes over so many rows."""
    return _channel_a(iterations=2, rows=size)


def _channel_a(*, iterations: int, rows: int) -> Work:
    import argparse

    from bench_stage2 import channel_a, make_batch, make_model

    options = argparse.Namespace(
        hidden=64,
        layers=2,
        vocabulary=2048,
        batch=rows,
        objects=2,
        image=32,
        device="cpu",
        dtype="float32",
        checkpointing=False,
    )
    model, coord_ids = make_model(options)
    batch = make_batch(model, coord_ids, options)
    channel = channel_a(iterations, "unroll", "expected", model, coord_ids)
    divisors = channel.divisors(channel.counts(batch))

    def work() -> None:
        channel(model, batch, divisors).loss.backward()
        model.zero_grad()

    return work


def rollouts(size: int, _: Path) -> Work:
    """Targets of so many rollouts of 12 objects each, against as many true ones."""
    make, work = _maker(), [_written(number, 12) for number in range(size)]
    return lambda: [make(rollout, sample) for rollout, sample in work]


def objects(size: int, _: Path) -> Work:
    """The target of one rollout of so many objects, against as many true ones."""
    make, (rollout, sample) = _maker(), _written(0, size)
    return lambda: make(rollout, sample)


def _maker() -> Callable[[Rollout, Sample], object]:
    from coordeval.coords import frame_named
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import dialect_named
    from coordeval.training.stage2.config import ChannelBConfig
    from coordeval.training.stage2.target_context import TargetContext
    from coordeval.training.stage2.targets import build_target
    from coordeval.training.tiny.model import tiny_tokenizer

    tokenizer: Any = tiny_tokenizer()
    ends = frozenset({tokenizer.eos_token_id, tokenizer.pad_token_id})
    reader = Reader(
        tokenizer=tokenizer,
        image_processor=None,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        end_ids=ends,
        pad_id=tokenizer.pad_token_id,
    )
    context = TargetContext.for_reader(
        reader,
        dialect=dialect_named("coordjson"),
        frame=frame_named("coordexp"),
        config=ChannelBConfig(),
    )
    return lambda rollout, sample: build_target(rollout, sample, context)


def _written(seed: int, count: int) -> tuple[Rollout, Sample]:
    """A rollout of boxes on a grid, each a little beside the true one, and its sample."""
    from coordeval.data.canonical import render_text
    from coordeval.parsers.dialects import DIALECTS
    from coordeval.records import GroundTruthObject, Rollout, Sample

    places = [(number + seed) % (GRID * GRID) for number in range(count)]
    corners = [(place % GRID * 33, place // GRID * 33) for place in places]
    names = [f"class {number % 20}" for number in range(count)]
    true = tuple(
        GroundTruthObject(name, "bbox_2d", (float(x), float(y), x + 30.0, y + 30.0), False)
        for name, (x, y) in zip(names, corners, strict=True)
    )
    records = [
        (name, "bbox_2d", (x, y, x + WRITTEN_PX, y + WRITTEN_PX))
        for name, (x, y) in zip(names, corners, strict=True)
    ]
    text = render_text(records, DIALECTS["coordjson"])
    sample = Sample(id=str(seed), image="none.png", width=1000, height=1000, objects=true)
    rollout = Rollout(
        id=str(seed), width=1000, height=1000, gt=true, text=text, finish_reason="stop"
    )
    return rollout, sample


def stage2_cases() -> list[Case]:
    """Both channels."""
    return [
        Case("stage 2", "iterations of channel A", "iterations", 1, iterations),
        Case("stage 2", "rows of channel A, two iterations", "rows", 1, rows),
        Case("stage 2", "targets of channel B", "rollouts", 8, rollouts),
        Case("stage 2", "target of one rollout", "objects", 16, objects),
    ]


__all__ = ["stage2_cases"]
