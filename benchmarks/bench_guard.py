"""The loop guard: microseconds per token on honest and on pathological text, at growing lengths.

Outside records, longer periods are looked for as the text grows, until all are from 22,408 tokens
on: from there constant time per token shows as a ratio near 1. Lengths are interleaved and the
best of several rounds is taken.

    python benchmarks/bench_guard.py
"""

from __future__ import annotations

import random
import re
import sys
import time
import zlib
from typing import TYPE_CHECKING

from script import run_script
from tables import Table

from coordeval.data.canonical import render_text
from coordeval.decoding.guard import LoopGuard
from coordeval.decoding.settings import GuardSettings
from coordeval.parsers import DIALECTS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tables import Cell

DIALECT = DIALECTS["coordjson"]
SETTINGS = GuardSettings(mode="mark")
NOTE = (
    "Outside records, longer periods are looked for as the text grows, until all are from 22,408 "
    "tokens on. The best of some rounds."
)
LENGTHS = (1_000, 30_000, 300_000)
PIECE = re.compile(r"<\|[^|<>\s]+\|>|, (?=<\|)| ?[A-Za-z0-9_]{1,8}| ?[^A-Za-z0-9_\s]|\s")

Tokens = list[tuple[int, bytes]]


def tokens_of(text: str) -> Tokens:
    """A text in pieces like those of a byte-level tokenizer, each with a stable id."""
    known: dict[str, tuple[int, bytes]] = {}
    pieces = PIECE.findall(text)
    for piece in pieces:
        if piece not in known:
            known[piece] = (zlib.crc32(piece.encode()), piece.encode())
    return [known[piece] for piece in pieces]


def dense_boxes(size: int) -> Tokens:
    """Different boxes of a few classes: ordinary text."""
    rng = random.Random(0)
    records = []
    for _ in range(size // 15):
        x, y = rng.randrange(500), rng.randrange(500)
        name = rng.choice(("person", "cat", "dining table", "traffic light"))
        box = (x, y, x + rng.randint(1, 499), y + rng.randint(1, 499))
        records.append((name, "bbox_2d", box))
    return tokens_of(render_text(records, DIALECT))[:size]


def long_polygons(size: int) -> Tokens:
    """Outlines of 500 points."""
    rng = random.Random(0)
    records = [
        ("cat", "poly", [rng.randrange(1000) for _ in range(1000)]) for _ in range(size // 1000)
    ]
    return tokens_of(render_text(records, DIALECT))[:size]


def endless_list(size: int) -> Tokens:
    """A geometry list that never closes and never repeats."""
    rng = random.Random(0)
    inside = ", ".join(f"<|coord_{rng.randrange(1000)}|>" for _ in range(size // 2))
    return tokens_of('{"objects": [{"desc": "cat", "poly": [' + inside)[:size]


def endless_string(size: int) -> Tokens:
    """A description that never ends, with braces and words that nearly repeat."""
    rng = random.Random(0)
    words = " ".join(rng.choice(("{", "}", "red", "blue", "and")) for _ in range(size))
    return tokens_of('{"objects": [{"desc": "' + words)[:size]


def open_braces(size: int) -> Tokens:
    """`{"` over and over, with a number that counts up so that nothing repeats."""
    return tokens_of("".join(f'{{"{number}' for number in range(size // 2)))[:size]


def broken_records(size: int) -> Tokens:
    """Records with an unclosed string, each different."""
    return tokens_of(
        "".join(f'{{"desc": "cat {k}, "bbox_2d": [{k}]}}, ' for k in range(size // 10))
    )[:size]


TEXTS: dict[str, Callable[[int], Tokens]] = {
    "dense boxes (honest)": dense_boxes,
    "polygons of 500 points (honest)": long_polygons,
    "a list that never closes": endless_list,
    "a string that never closes": endless_string,
    "braces that never close": open_braces,
    "records with unclosed strings": broken_records,
}


def microseconds_per_token(tokens: Tokens) -> float:
    """One pass of a fresh guard, which must not fire: else less would be measured."""
    guard = LoopGuard(SETTINGS, DIALECT)
    start = time.process_time()
    for token_id, piece in tokens:
        guard.push(token_id, piece)
    elapsed = time.process_time() - start
    if guard.verdict is not None:
        raise RuntimeError(f"the guard fired on text that does not loop: {guard.verdict}")
    return elapsed / len(tokens) * 1e6


def measure(options: argparse.Namespace) -> list[Table]:
    """One line per kind of text."""
    rows: list[tuple[Cell, ...]] = []
    for label, make in TEXTS.items():
        texts = [make(length // options.shrink) for length in LENGTHS]
        best = [float("inf")] * len(texts)
        for _ in range(options.rounds):
            for place, tokens in enumerate(texts):
                best[place] = min(best[place], microseconds_per_token(tokens))
        rows.append((label, *best, best[-1] / best[1]))
    return [
        Table(
            title="Loop guard: microseconds per token at growing lengths",
            columns=(
                ("text", ""),
                *((f"{length // options.shrink:,} tokens", ".2f") for length in LENGTHS),
                ("last / middle", ".2f"),
            ),
            rows=tuple(rows),
            notes=(NOTE,),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often, how small."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shrink", type=int, default=1, help="divide every length by this")


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"rounds": 1, "shrink": 20}))
