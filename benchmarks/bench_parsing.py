"""Parsing speed: texts of coordinate tokens against json.loads on the same texts with integers.

    python benchmarks/bench_parsing.py

Growth on clean and hostile texts is in bench_growth.py.
"""

from __future__ import annotations

import json
import random
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rounds import INTERVAL_NOTE, median_s, per_call, ratio_of, side_by_side
from script import run_script
from tables import Table

from coordeval.data.canonical import render_text
from coordeval.parsers import DIALECTS, parse

if TYPE_CHECKING:
    import argparse

    from tables import Cell

DIALECT = DIALECTS["coordjson"]
NOTE = (
    "json.loads stops at coordinate tokens, so it reads the text with bare integers, which is "
    "shorter; it checks nothing and finds no drop reasons. Above 1: faster than json.loads."
)
NAMES = ("person", "cat", "dining table", "traffic light", "potted plant")


class Case(NamedTuple):
    """A clean text, the same with one foreign token, and its dialect."""

    label: str
    text: str
    spoiled: str
    dialect: str = "coordjson"


def clean_text(num_objects: int, *, polygons: bool, seed: int = 0) -> str:
    """A canonical text of that many boxes, or polygons of 8 points."""
    rng = random.Random(seed)
    records: list[tuple[str, str, list[int]]] = []
    for _ in range(num_objects):
        if polygons:
            records.append((rng.choice(NAMES), "poly", [rng.randrange(1000) for _ in range(16)]))
            continue
        x1, y1 = rng.randrange(500), rng.randrange(500)
        box = [x1, y1, x1 + rng.randint(1, 499), y1 + rng.randint(1, 499)]
        records.append((rng.choice(NAMES), "bbox_2d", box))
    return render_text(records, DIALECT)


def cases() -> list[Case]:
    """Texts on the fast path, and clean ones that are not."""
    out = []
    for count in (3, 30, 300):
        text = clean_text(count, polygons=False)
        out.append(Case(f"{count} boxes", text, _spoiled(text)))
    text = clean_text(30, polygons=True)
    out.append(Case("30 polygons of 8 points", text, _spoiled(text)))
    text = clean_text(30, polygons=False)
    escaped = text.replace('"desc": "', '"desc": "\\"', 1)
    out.append(Case("30 boxes, one escaped quote", escaped, _spoiled(escaped)))
    records = [(o.desc or "", "bbox_2d", list(o.values or ())) for o in parse(text).objects]
    older = render_text(records, DIALECTS["object-map-bare"])
    out.append(Case("30 boxes, older map dialect", older, _spoiled(older), "object-map-bare"))
    return out


def _spoiled(text: str) -> str:
    return text.replace("<|coord_", "第九, <|coord_", 1)


def measure(options: argparse.Namespace) -> list[Table]:
    """One row per kind of text."""
    rows: list[tuple[Cell, ...]] = []
    for case in cases():
        as_json = re.sub(r"<\|coord_(\d+)\|>", r"\1", case.text)
        times = side_by_side(
            {
                "json.loads": partial(json.loads, as_json),
                "parse": partial(parse, case.text, case.dialect),
                "spoiled": partial(parse, case.spoiled, case.dialect),
            },
            options.rounds,
            clock=per_call,
        )
        seconds = median_s(times, "parse")
        rows.append(
            (
                case.label,
                seconds * 1e6,
                len(case.text.encode()) / seconds / 1e6,
                ratio_of(times, "json.loads", "parse"),
                ratio_of(times, "json.loads", "spoiled"),
            )
        )
    return [
        Table(
            title="Parsing: speed relative to json.loads on the same text with integers",
            columns=(
                ("text", ""),
                ("us", ".1f"),
                ("MB/s", ".1f"),
                ("times json.loads' speed", ".2f"),
                ("with one foreign token", ".2f"),
            ),
            rows=tuple(rows),
            notes=(NOTE, INTERVAL_NOTE),
        )
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=25)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"rounds": 5}))
