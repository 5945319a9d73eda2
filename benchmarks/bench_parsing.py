"""Parsing speed: canonical text against json.loads on the same text, growth on hostile text.

Prints ratios measured side by side in one run; nothing here is asserted.
Run: python benchmarks/bench_parsing.py
"""

from __future__ import annotations

import json
import random
import re
import statistics
import time
from typing import TYPE_CHECKING

from coordeval.data.canonical import render_text
from coordeval.parsers import DIALECTS, parse

if TYPE_CHECKING:
    from collections.abc import Callable

DIALECT = DIALECTS["coordjson"]
NAMES = ("person", "cat", "dining table", "traffic light", "potted plant")
ROUNDS = 15


def clean_text(num_objects: int, *, polygons: bool, seed: int = 0) -> str:
    """A canonical text of that many boxes, or polygons of 8 points."""
    rng = random.Random(seed)
    records: list[tuple[str, str, list[int]]] = []
    for _ in range(num_objects):
        if polygons:
            records.append((rng.choice(NAMES), "poly", [rng.randrange(1000) for _ in range(16)]))
            continue
        x1, y1 = rng.randrange(500), rng.randrange(500)
        records.append(
            (
                rng.choice(NAMES),
                "bbox_2d",
                [x1, y1, x1 + rng.randint(1, 499), y1 + rng.randint(1, 499)],
            )
        )
    return render_text(records, DIALECT)


def seconds_per_call(call: Callable[[], object]) -> float:
    """Time of one call, from the best batch that lasts about 20 ms."""
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            call()
        elapsed = time.perf_counter() - start
        if elapsed > 0.02:
            return elapsed / count
        count *= 4


def against_json(label: str, text: str, spoiled: str, dialect: str = "coordjson") -> None:
    """Interleaved rounds of json.loads, parse, and parse of a text with one foreign token."""
    as_json = re.sub(r"<\|coord_(\d+)\|>", r"\1", text)
    ratios: list[float] = []
    spoiled_ratios: list[float] = []
    for _ in range(ROUNDS):
        reference = seconds_per_call(lambda: json.loads(as_json))
        ratios.append(reference / seconds_per_call(lambda: parse(text, dialect)))
        spoiled_ratios.append(reference / seconds_per_call(lambda: parse(spoiled, dialect)))
    print(
        f"{label:34} {statistics.median(ratios):6.2f}x json.loads "
        f"[{min(ratios):.2f}, {max(ratios):.2f}];  with one foreign token "
        f"{statistics.median(spoiled_ratios):.2f}x"
    )


BROKEN = '{"desc": "cat, "bbox_2d": [<|coord_1|>]}'
HOSTILE: dict[str, Callable[[int], str]] = {
    "[ repeated": lambda size: "[" * size,
    '{" repeated': lambda size: '{"' * (size // 2),
    "one unclosed string": lambda size: '{"objects": [{"desc": "' + "a" * size,
    "broken records": lambda size: '{"objects": [' + ", ".join([BROKEN] * (size // len(BROKEN))),
    "nested values": lambda size: '{"desc": "cat", "extra": [' * (size // 26),
    "escaped quotes": lambda size: '{"objects": [{"desc" ' + '\\"' * (size // 2),
    "} in a list": lambda size: '{"objects": [' + "}" * size,
}


def growth(label: str, make: Callable[[int], str]) -> None:
    """Time at 1/8 MB, 1 MB and 4 MB; linear growth is 8 and 4."""
    times = []
    for size in (125_000, 1_000_000, 4_000_000):
        text = make(size)
        best = min(_once(text) for _ in range(3))
        times.append(best)
    print(
        f"{label:34} 1 MB in {times[1] * 1e3:7.1f} ms;  x8 text: x{times[1] / times[0]:.1f} time, "
        f"x4 text: x{times[2] / times[1]:.1f} time"
    )


def _once(text: str) -> float:
    start = time.perf_counter()
    parse(text)
    return time.perf_counter() - start


def main() -> None:
    """Print all ratios."""
    print("speed relative to json.loads on the same text with integers (median [min, max])")
    for count in (3, 30, 300):
        text = clean_text(count, polygons=False)
        spoiled = text.replace("<|coord_", "第九, <|coord_", 1)
        against_json(f"{count} boxes", text, spoiled)
    text = clean_text(30, polygons=True)
    against_json("30 polygons of 8 points", text, text.replace("<|coord_", "第九, <|coord_", 1))
    # Texts that are clean but not on the fast path.
    text = clean_text(30, polygons=False)
    escaped = text.replace('"desc": "', '"desc": "\\"', 1)
    against_json(
        "30 boxes, one escaped quote", escaped, escaped.replace("<|coord_", "85, <|coord_", 1)
    )
    records = [(o.desc or "", "bbox_2d", list(o.values or ())) for o in parse(text).objects]
    older = render_text(records, DIALECTS["object-map-bare"])
    spoiled = older.replace("<|coord_", "第九, <|coord_", 1)
    against_json("30 boxes, older map dialect", older, spoiled, "object-map-bare")
    print("\ngrowth on hostile text")
    for label, make in HOSTILE.items():
        growth(label, make)


if __name__ == "__main__":
    main()
