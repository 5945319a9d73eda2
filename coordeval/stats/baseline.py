"""The baseline file: the numbers of a run that later runs are held against.

It holds the metrics, per-image sufficient statistics, hashes of the ground truth and the protocol,
and the versions that made them; no text, no boxes, no images. The same run gives the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.atomic import output_file
from coordeval.errors import DataError, NotComparable
from coordeval.jsonl import dump_line, dump_sorted, load_document
from coordeval.metrics.names.stored import names_essence
from coordeval.quoting import shown
from coordeval.stats.coco_stats import run_matches
from coordeval.stats.image_table import ImageTable
from coordeval.stats.packed_matches import pack_matches
from coordeval.stats.recipe_book import recipes_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.result import ScoreResult

MAX_COUNT = 1e15
BASELINE_FORMAT = "coordeval-baseline/1"
_DEFINING_VERSIONS = ("parser", "metrics")
_SHOWN = 4  # differing fields of a protocol that an error line names
_FIELDS = (
    "run",
    "ground_truth",
    "protocol",
    "reading",
    "versions",
    "metrics",
    "per_image",
    "coco_matches",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the file holds.

    `ground_truth` has `sha256`, `images`, `objects`; `protocol` its fields and `sha256`.
    `per_image` maps columns of `ImageTable` to one value per image, in the order of
    `per_image["id"]`; columns that are 0 throughout are left out. `coco_matches` is the match
    table that AP is made from, packed (`unpack_matches`).
    """

    run: str
    ground_truth: dict[str, Any]
    protocol: dict[str, Any]
    reading: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, float | None]
    per_image: dict[str, list[Any]]
    coco_matches: dict[str, Any]


def make_baseline(result: ScoreResult, *, name: str) -> Baseline:
    """The baseline of a scored run; an empty run gives one without images."""
    return Baseline(
        run=name,
        ground_truth=ground_truth_of(result.columns),
        protocol=protocol_of(result),
        reading=dict(result.reading),
        versions=dict(result.versions),
        metrics=dict(result.metrics),
        per_image=_per_image(result),
        coco_matches=pack_matches(run_matches(result)),
    )


def ground_truth_of(columns: Columns) -> dict[str, Any]:
    """Hash and size of the ground truth that a run is scored against, whatever its order.

    Two runs have the same hash where the same ids have images of the same size with the same
    objects (name, coordinates to 1e-6 pixels, crowd, area) in any order, judged for the same
    classes.
    """
    digest = hashlib.sha256()
    bounds = np.searchsorted(columns.gt.shapes.image, np.arange(columns.num_images + 1))
    for entry in sorted(columns.images, key=lambda entry: entry.id):
        objects = _objects(columns, *bounds[entry.index : entry.index + 2].tolist())
        # The default escapes keep lone surrogates of odd names.
        line = [entry.id, entry.width, entry.height, objects]
        if entry.federated is not None:
            line += [sorted(ids) for ids in astuple(entry.federated)]
        digest.update(repr(line).encode("utf-8", "backslashreplace") + b"\n")
    return {
        "sha256": digest.hexdigest(),
        "images": columns.num_images,
        "objects": len(columns.gt),
    }


def _objects(columns: Columns, first: int, last: int) -> list[list[Any]]:
    """Ground truth of the rows `first` to `last` (excluded), sorted."""
    gt = columns.gt
    out = []
    for row in range(first, last):
        shape = gt.shapes.polygons.get(row)
        values = gt.shapes.boxes[row].tolist() if shape is None else list(shape)
        out.append(
            [
                gt.desc[row],
                shape is not None,
                [round(value, 6) for value in values],
                bool(gt.crowd[row]),
                round(float(gt.area[row]), 6),
            ]
        )
    out.sort()
    return out


def protocol_of(result: ScoreResult) -> dict[str, Any]:
    """The protocol's fields with a hash over all that define the numbers (not its note)."""
    fields = {key: value for key, value in result.protocol.items() if key != "note"}
    data = dump_sorted(_essence(fields))
    return {**fields, "sha256": hashlib.sha256(data).hexdigest()}


def _essence(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What of a protocol defines the numbers: a model that matches names is known by its hash."""
    if "names" not in fields:
        return dict(fields)
    return {**fields, "names": names_essence(fields["names"])}


def _per_image(result: ScoreResult) -> dict[str, list[Any]]:
    """Columns that are not 0 throughout; whole numbers as such."""
    table = ImageTable(result)
    recipes_of(result, table)  # adds the columns that single metrics need
    out: dict[str, list[Any]] = {"id": [entry.id for entry in result.columns.images]}
    for name in table.names:
        values = table[name]
        if values.any():
            whole = bool((values == values.astype(np.int64)).all())
            out[name] = (values.astype(np.int64) if whole else values).tolist()
    return out


def refuse_incomparable(baseline: Baseline, result: ScoreResult, *, where: str) -> None:
    """Raise NotComparable where the run was scored against other ground truth or otherwise."""
    here, there = ground_truth_of(result.columns), baseline.ground_truth
    if here["sha256"] != there.get("sha256"):
        raise NotComparable(
            f"{where}: made on other ground truth ({there.get('images')} images and "
            f"{there.get('objects')} objects there, {here['images']} and {here['objects']} here); "
            "check a run on the same data, or re-make the baseline with --update-baseline"
        )
    protocol = protocol_of(result)
    if protocol["sha256"] != baseline.protocol.get("sha256"):
        here, there = _essence(protocol), _essence(baseline.protocol)
        names = {*here, *there} - {"sha256"}
        differing = sorted(key for key in names if here.get(key) != there.get(key))
        told = "; ".join(
            f"{shown(key, 40)}: {_short(baseline.protocol.get(key))} there, "
            f"{_short(protocol.get(key))} here"
            for key in differing[:_SHOWN]
        )
        if len(differing) > _SHOWN:
            told += f"; and {len(differing) - _SHOWN} more"
        raise NotComparable(
            f"{where}: made under another protocol ({told or 'its hash is another'})"
        )
    for name in _DEFINING_VERSIONS:
        if baseline.versions.get(name) != result.versions.get(name):
            raise NotComparable(
                f"{where}: made with {name} version {baseline.versions.get(name)}, this is "
                f"version {result.versions.get(name)}, which counts differently; re-make the "
                "baseline with --update-baseline"
            )


def _short(value: Any) -> str:
    text = _dump(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write the file as a whole: one metric and one per-image column per line."""
    parts = [f'  "format": "{BASELINE_FORMAT}"'.encode()]
    for name in _FIELDS:
        value = getattr(baseline, name)
        if name in ("metrics", "per_image", "coco_matches"):
            rows = [b"    " + _dump(key) + b": " + _dump(value[key]) for key in value]
            parts.append(b'  "' + name.encode() + b'": {\n' + b",\n".join(rows) + b"\n  }")
        else:
            parts.append(b'  "' + name.encode() + b'": ' + _dump(value))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with output_file(path) as place:
            place.write_bytes(b"{\n" + b",\n".join(parts) + b"\n}\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def _dump(value: Any) -> bytes:
    return dump_line(value).rstrip(b"\n")


def read_baseline(path: Path) -> Baseline:
    """Read the file; DataError where there is none, or where it is of another format."""
    try:
        raw = load_document(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such baseline; make it from a run you trust: "
            f"coordeval check RUN --baseline {path} --update-baseline"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != BASELINE_FORMAT:
        raise DataError(f"{path}: format {shown(str(found), 40)} is not {BASELINE_FORMAT!r}")
    missing = [name for name in _FIELDS if name not in raw]
    if missing or not all(isinstance(raw[name], dict) for name in _FIELDS if name != "run"):
        raise DataError(f"{path}: not a whole baseline; re-make it with --update-baseline")
    if not _is_sound(raw):
        raise DataError(f"{path}: its tables do not fit; re-make it with --update-baseline")
    return Baseline(**{name: raw[name] for name in _FIELDS})


def _is_sound(raw: dict[str, Any]) -> bool:
    """Metrics are numbers or null, and all per-image columns are numbers, one per image."""
    columns, ids = raw["per_image"], raw["per_image"].get("id")
    return (
        isinstance(raw["run"], str)
        and all(value is None or _is_number(value) for value in raw["metrics"].values())
        and isinstance(ids, list)
        and all(isinstance(name, str) for name in ids)
        and all(
            isinstance(values, list) and len(values) == len(ids) and all(map(_is_count, values))
            for name, values in columns.items()
            if name != "id"
        )
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_count(value: object) -> bool:
    """A number that can be added up over images without losing any of them."""
    return isinstance(value, int | float) and -MAX_COUNT <= value <= MAX_COUNT


__all__ = [
    "BASELINE_FORMAT",
    "Baseline",
    "ground_truth_of",
    "make_baseline",
    "protocol_of",
    "read_baseline",
    "refuse_incomparable",
    "write_baseline",
]
