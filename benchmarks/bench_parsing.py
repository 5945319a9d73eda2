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
from coordeval.parsers.container import parse_careful

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tables import Cell

DIALECT = DIALECTS["coordjson"]
NOTE = (
    "json.loads stops at coordinate tokens, so it reads the text with bare integers, which is "
    "shorter; it checks nothing and finds no drop reasons. Above 1: faster than json.loads."
)
NAMES = ("person", "cat", "dining table", "traffic light", "potted plant")


DAMAGE_NOTE = (
    "Times the clean text of 30 boxes takes: one record is damaged, the twelfth, or all of them. "
    "Field by field: every record is read without shortcuts, as a reader of tokens would."
)
DAMAGE: dict[str, Callable[[str], str]] = {
    "a foreign token": lambda record: record.replace("<|coord_", "第九, <|coord_", 1),
    "bbox_3d for bbox_2d": lambda record: record.replace("bbox_2d", "bbox_3d"),
    "a coordinate missing": lambda record: re.sub(r", <\|coord_\d+\|>\]", "]", record),
    "an escaped quote": lambda record: record.replace('"desc": "', '"desc": "\\"', 1),
    "a third key": lambda record: record.replace('"desc"', '"score": 0.5, "desc"', 1),
    "no spaces": lambda record: record.replace(" ", ""),
    "no ] of its list": lambda record: record.replace("]", ""),
    "an unclosed description": lambda record: record.replace('", "', ', "', 1),
    "no comma between its fields": lambda record: record.replace('", "', '" "', 1),
}
FRAMES: dict[str, Callable[[str], str]] = {
    "cut inside the last record": lambda text: text[:-30],
    "in a code fence": lambda text: f"```json\n{text}\n```",
    "a bare list": lambda text: text.removeprefix('{"objects": ').removesuffix("}"),
    "an end token behind": lambda text: text + "<|im_end|>",
}


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


def damaged(clean: str, damage: Callable[[str], str], *, every: bool) -> str:
    """The text with its twelfth record damaged, or every one."""
    records = clean.removeprefix('{"objects": [').removesuffix("]}").split("}, ")
    records = [record.removesuffix("}") + "}" for record in records]
    bent = [damage(record) if every or n == 11 else record for n, record in enumerate(records)]
    return '{"objects": [' + ", ".join(bent) + "]}"


def damage_table(rounds: int) -> Table:
    """What each kind of damage costs, in times of the clean text."""
    clean = clean_text(30, polygons=False)
    rows: list[tuple[Cell, ...]] = []
    texts = {
        name: [damaged(clean, bend, every=e) for e in (False, True)]
        for name, bend in DAMAGE.items()
    }
    texts |= {name: [frame(clean)] for name, frame in FRAMES.items()}
    for name, (one, *every) in texts.items():
        work = {
            "clean": partial(parse, clean, DIALECT),
            "one": partial(parse, one, DIALECT),
            "slowly": partial(parse_careful, one, DIALECT),
        }
        if every:
            work["every"] = partial(parse, every[0], DIALECT)
        times = side_by_side(work, rounds, clock=per_call)
        ratios = [
            ratio_of(times, part, "clean") if part in work else None
            for part in ("one", "every", "slowly")
        ]
        rows.append((name, *ratios))
    return Table(
        title="Parsing: what damage costs",
        columns=(
            ("damage", ""),
            ("one record", ".2f"),
            ("every record", ".2f"),
            ("field by field, one record", ".2f"),
        ),
        rows=tuple(rows),
        notes=(DAMAGE_NOTE, INTERVAL_NOTE),
    )


def measure(options: argparse.Namespace) -> list[Table]:
    """One row per kind of text, and one per kind of damage."""
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
        ),
        damage_table(options.rounds),
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=25)


if __name__ == "__main__":
    sys.exit(run_script(__doc__, measure, arguments=arguments, quick={"rounds": 5}))
