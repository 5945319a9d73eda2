"""The gallery's data: an index of all images over all runs, and the details in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.jsonl import dump_line, load_json
from coordeval.metrics.classes import NAME_RULES, UNKNOWN_CLASS
from coordeval.metrics.f1 import f1_value
from coordeval.metrics.packed_text import pack, unpack
from coordeval.metrics.tables import UNKNOWN_LABEL, headline_row
from coordeval.parsers.reasons import ALL_ISSUES, DROP_REASONS
from coordeval.reports.html.details import Details
from coordeval.reports.html.images import Wanted, image_roots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from coordeval.metrics.columns import ImageEntry
    from coordeval.metrics.result import ScoreResult
    from coordeval.reports.charts.shown import ShownRun

CHUNK_IMAGES = 100
SMALL_PX2, LARGE_PX2 = 32**2, 96**2
SIZES = ("small", "medium", "large")


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """All images: `ids` in order of first appearance, `entries` per run (None: no line there)."""

    ids: list[str]
    entries: list[list[ImageEntry | None]]
    runs: Sequence[ShownRun]

    def index(self) -> dict[str, Any]:
        """What lists, filters and sorts need; positions follow `ids`."""
        classes = _Classes()
        per_run = [
            _run_columns(shown, entries, classes)
            for shown, entries in zip(self.runs, self.entries, strict=True)
        ]
        held: list[list[int]] = []
        sizes: list[int] = []
        for position in range(len(self.ids)):
            held.append(sorted({code for part in per_run for code in part.classes[position]}))
            sizes.append(max(part.sizes[position] for part in per_run))
        known = [self._known(position) for position in range(len(self.ids))]
        return {
            "ids": self.ids,
            "image": [entry.image for entry in known],
            "size": [[entry.width, entry.height] for entry in known],
            "classes": held,
            "object_sizes": sizes,
            "class_names": classes.names,
            "reasons": list(DROP_REASONS),
            "issues": list(ALL_ISSUES),
            "sizes": list(SIZES),
            "chunk": CHUNK_IMAGES,
            "runs": [part.data for part in per_run],
        }

    def chunks(self, run: int) -> Iterator[list[Any]]:
        """Details of the run of that place, `CHUNK_IMAGES` positions at a time; None for no line.

        They are made as they are asked for.
        """
        shown, entries = self.runs[run], self.entries[run]
        images = [None if entry is None else entry.index for entry in entries]
        rows = _in_order(Details(shown.run, shown.result), images)
        for start in range(0, len(images), CHUNK_IMAGES):
            yield list(islice(rows, min(CHUNK_IMAGES, len(images) - start)))

    def wanted(self, given_root: Path | None) -> Iterator[Wanted]:
        """Images to embed, most failures over all runs first."""
        roots = [image_roots(shown.run, given_root) for shown in self.runs]
        failures = np.zeros(len(self.ids))
        for shown, entries in zip(self.runs, self.entries, strict=True):
            counts = _failures(shown.result)
            for position, entry in enumerate(entries):
                if entry is not None:
                    failures[position] = max(failures[position], counts[entry.index])
        for position in np.argsort(-failures, kind="stable").tolist():
            entry = self._known(position)
            name = next(
                (e[position].image for e in self.entries if e[position] and e[position].image),
                None,
            )
            holders = [
                root
                for run_roots, entries in zip(roots, self.entries, strict=True)
                if entries[position] is not None
                for root in run_roots
            ]
            yield Wanted(
                position=position,
                image=name if isinstance(name, str) else None,
                width=entry.width,
                height=entry.height,
                roots=list(dict.fromkeys(holders)),
            )

    def _known(self, position: int) -> ImageEntry:
        entry = next(part[position] for part in self.entries if part[position] is not None)
        assert entry is not None
        return entry


def build_gallery(runs: Sequence[ShownRun]) -> Gallery:
    """Line the images of all runs up by id; no images give an empty gallery."""
    positions: dict[str, int] = {}
    for shown in runs:
        for entry in shown.result.columns.images:
            positions.setdefault(entry.id, len(positions))
    entries: list[list[ImageEntry | None]] = []
    for shown in runs:
        part: list[ImageEntry | None] = [None] * len(positions)
        for entry in shown.result.columns.images:
            part[positions[entry.id]] = entry
        entries.append(part)
    return Gallery(ids=list(positions), entries=entries, runs=runs)


def _in_order(details: Details, images: Sequence[int | None]) -> Iterator[Any]:
    """The details of these images, all of the run's, in this order; None for None."""
    known = [image for image in images if image is not None]
    parts = (
        row
        for first in range(0, len(known), CHUNK_IMAGES)
        for row in details.of_images(first, min(first + CHUNK_IMAGES, len(known)))
    )
    if known == sorted(known):
        for image in images:
            yield None if image is None else next(parts)
        return
    # The run has its lines in another order: hold the details packed until their turn.
    held = [pack(dump_line(row).decode("utf-8")) for row in parts]
    for image in images:
        yield None if image is None else load_json(unpack(held[image]).encode("utf-8"))


class _Classes:
    """Class labels over all runs, numbered as they come."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, label: str) -> int:
        return self._codes.setdefault(label, len(self._codes))

    @property
    def names(self) -> list[str]:
        return list(self._codes)


@dataclass(frozen=True, slots=True)
class _RunColumns:
    data: dict[str, Any]
    classes: list[set[int]]
    sizes: list[int]


def _run_columns(
    shown: ShownRun, entries: Sequence[ImageEntry | None], classes: _Classes
) -> _RunColumns:
    """One run's columns of the index, lined up with the gallery's positions (None: no line)."""
    result = shown.result
    table = result.per_image
    threshold = f"{result.scored.aware.thresholds[headline_row(result.scored.aware)]:.2f}"
    right, wrong, missed = (table[f"{name}@{threshold}"].tolist() for name in ("tp", "fp", "fn"))
    f1 = [f1_value(*three) for three in zip(right, wrong, missed, strict=True)]
    wasted = table["wasted_tokens"].astype(object).where(table["wasted_tokens"].notna(), None)
    by_row: dict[str, list[Any]] = {
        "right": right,
        "wrong": wrong,
        "missed": missed,
        # Nothing there and nothing written is as good as it gets.
        "f1": [1.0 if value is None else round(value, 5) for value in f1],
        "dropped": (table["found"] - table["valid"]).tolist(),
        "copies": (table["exact"] + table["near"]).tolist(),
        "objects": table["gt"].tolist(),
        "loop": table["loop"].astype(int).tolist(),
        "failed": table["error"].astype(int).tolist(),
        "wasted": wasted.tolist(),
        "reasons": _bits(table, [f"drop_{name}" for name in DROP_REASONS]),
        "issues": _bits(table, [f"issue_{name}" for name in ALL_ISSUES]),
    }
    rows = [None if entry is None else entry.index for entry in entries]
    data: dict[str, Any] = {
        name: [None if row is None else values[row] for row in rows]
        for name, values in by_row.items()
    }
    data["label"] = shown.label
    data["threshold"] = threshold
    held, sizes = _held_classes(result, classes), _object_sizes(result)
    return _RunColumns(
        data=data,
        classes=[set() if row is None else held[row] for row in rows],
        sizes=[0 if row is None else sizes[row] for row in rows],
    )


def _bits(table: Any, names: Sequence[str]) -> list[int]:
    """A bit per column that the table has; issues of others' dialects stand where they occur."""
    out = np.zeros(len(table), dtype=np.int64)
    for place, name in enumerate(names):
        if name not in table:
            continue
        out |= (table[name].to_numpy() > 0).astype(np.int64) << place
    return [int(value) for value in out]


def _held_classes(result: ScoreResult, classes: _Classes) -> list[set[int]]:
    """Per image the classes of its ground truth, its predictions, and its readable drops."""
    columns = result.columns
    labels = [classes.code(label) for label in columns.universe.labels]
    held: list[set[int]] = [set() for _ in columns.images]
    for shapes, codes in (
        (columns.gt.shapes, columns.gt.class_code),
        (columns.pred.shapes, columns.pred.class_code),
    ):
        pairs = np.unique(np.column_stack([shapes.image, codes]), axis=0)
        for image, code in pairs.tolist():
            held[image].add(classes.code(UNKNOWN_LABEL) if code == UNKNOWN_CLASS else labels[code])
    normalise = NAME_RULES[result.protocol["name_rule"]]
    by_name = columns.names.codes
    records = columns.records
    for row in np.flatnonzero(~columns.record_valid).tolist():
        desc = records.desc[row]
        code = None if desc is None else by_name.get(normalise(desc))
        if code is not None:
            held[records.image[row]].add(labels[code])
    return held


def _object_sizes(result: ScoreResult) -> list[int]:
    """Per image one bit for each of `SIZES` that its ground truth holds (COCO's areas)."""
    gt = result.columns.gt
    band = np.where(gt.area < SMALL_PX2, 0, np.where(gt.area <= LARGE_PX2, 1, 2))
    out = np.zeros(result.columns.num_images, dtype=np.int64)
    np.bitwise_or.at(out, gt.shapes.image, 1 << band)
    return [int(value) for value in out]


def _failures(result: ScoreResult) -> list[int]:
    matched = result.scored.aware
    row = headline_row(matched)
    drops = [entry.num_found - entry.num_valid for entry in result.columns.images]
    return (matched.fp[row] + matched.fn[row] + np.asarray(drops, dtype=np.int64)).tolist()  # type: ignore[no-any-return]


__all__ = ["CHUNK_IMAGES", "Gallery", "build_gallery"]
