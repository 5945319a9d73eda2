"""What is measured from 1x to 32x input: for every case the work at one scale, prepared.

A case's inputs are made before the clock starts; runs of more images have texts of the same size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench_guard import broken_records, dense_boxes, microseconds_per_token
from bench_parsing import clean_text
from growth_case import Case
from growth_runs import run_cases
from growth_stage2 import stage2_cases
from hostile_texts import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from growth_case import Build, Work


def parsing_cases() -> list[Case]:
    """Clean texts, then hostile ones."""
    from coordeval.parsers import parse

    def text_case(name: str, make: Callable[[int], str]) -> Case:
        def build(size: int, _: Path) -> Work:
            text = make(size)
            return lambda: parse(text)

        return Case("parsing", name, "characters", 32_768, build)

    return [
        text_case("boxes", lambda size: clean_text(size // 95, polygons=False)),
        text_case("polygons of 8 points", lambda size: clean_text(size // 260, polygons=True)),
        *(text_case(name, make) for name, make in HOSTILE.items()),
    ]


def decoding_cases() -> list[Case]:
    """The guard over tokens, and the grammar over the length of one answer."""

    def guard(make: Callable[[int], Any]) -> Build:
        def build(size: int, _: Path) -> Work:
            tokens = make(size)
            return lambda: microseconds_per_token(tokens)

        return build

    return [
        Case("loop guard", "boxes", "tokens", 2048, guard(dense_boxes)),
        Case("loop guard", "broken records", "tokens", 2048, guard(broken_records)),
        Case("grammar", "one answer", "tokens", 2048, grammar),
    ]


def grammar(size: int, _: Path) -> Work:
    """Masks of one sequence along a text of boxes, at the tiny vocabulary."""
    from bench_constraint import DIALECT, tiny_table

    from coordeval.decoding.constraint import compile_constraint
    from coordeval.decoding.settings import ConstraintSettings

    table = tiny_table()
    constraint = compile_constraint(ConstraintSettings(mode="grammar"), DIALECT, table)
    assert constraint is not None
    pieces = {table.text_bytes(i): i for i in range(table.vocab_size) if table.text_bytes(i)}
    longest = max(map(len, pieces))
    ids: list[int] = []
    text = clean_text(size // 10 + 1, polygons=False).encode()
    while text and len(ids) < size:
        piece = next(text[:n] for n in range(longest, 0, -1) if text[:n] in pieces)
        ids.append(pieces[piece])
        text = text[len(piece) :]

    def work() -> None:
        state = constraint.start()
        for token_id in ids:
            state.allowed()
            state.advance(token_id)

    return work


def loss_cases() -> list[Case]:
    """Stage 1's loss over the supervised tokens of a batch."""

    def build(size: int, _: Path) -> Work:
        import argparse

        from bench_training import head_steps

        options = argparse.Namespace(positions=size, hidden=32, device="cpu", dtype="float32")
        return head_steps(options, ["mixed + boxes"])["mixed + boxes"]

    return [Case("losses", "mixed + boxes", "positions", 64, build)]


def all_cases() -> list[Case]:
    """Every case, in the order of the table."""
    return [
        *parsing_cases(),
        *run_cases(),
        *decoding_cases(),
        *loss_cases(),
        *stage2_cases(),
    ]


__all__ = ["all_cases"]
