"""A score to disk: metrics.json and the tables, replaced together."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from coordeval.atomic import FileSet
from coordeval.errors import DataError
from coordeval.jsonl import dump_document, dump_line
from coordeval.metrics.objects_table import objects_in_parts, objects_schema
from coordeval.metrics.parquet import in_parts, schema_of, write_table
from coordeval.metrics.tables import iter_coco_results, per_image_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from coordeval.metrics.result import ScoreResult

METRICS_NAME = "metrics.json"
NAMES_NAME = "name_mapping.json"
COCO_BLOCK = 4096


def write_score(result: ScoreResult, folder: Path) -> None:
    """Write metrics.json, per_image, per_class, objects (.parquet) and coco_results.json.

    And name_mapping.json where names are matched by more than being equal.

    Makes the folder where it is missing. metrics.json comes last and an older one goes first, so
    that a folder which holds it is complete, and of one scoring. Raises DataError where the folder
    cannot be written; older files are then as they were.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileSet() as files:
            _write_whole(_image_table(result), files.new(folder / "per_image.parquet"))
            _write_whole(result.per_class, files.new(folder / "per_class.parquet"))
            objects = files.new(folder / "objects.parquet")
            write_table(objects_in_parts(result), objects_schema(result), objects)
            _write_coco(iter_coco_results(result), files.new(folder / "coco_results.json"))
            if result.name_mapping is not None:
                names = dump_line(result.name_mapping)  # names may hold lone surrogates
                files.new(folder / NAMES_NAME).write_bytes(names)
            else:
                files.drop(folder / NAMES_NAME)  # that of an earlier score
            text = dump_document(result.to_json()) + b"\n"
            files.new(folder / METRICS_NAME).write_bytes(text)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _write_whole(table: pd.DataFrame, path: Path) -> None:
    write_table(in_parts(table), schema_of(table), path)


def _image_table(result: ScoreResult) -> pd.DataFrame:
    """`result.per_image`, which is not kept for being written."""
    made = result.__dict__.get("per_image")
    return per_image_table(result) if made is None else made


def _write_coco(results: Iterator[dict[str, Any]], path: Path) -> None:
    """A JSON array, block by block: the whole list would be larger than all else in the score."""
    with path.open("wb") as handle:
        handle.write(b"[")
        before = b""
        while block := list(islice(results, COCO_BLOCK)):
            handle.write(before + orjson.dumps(block)[1:-1])
            before = b","
        handle.write(b"]")


__all__ = ["METRICS_NAME", "NAMES_NAME", "write_score"]
