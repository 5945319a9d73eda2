"""A score to disk: metrics.json and the tables, replaced together."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from coordeval.atomic import FileSet
from coordeval.errors import DataError
from coordeval.jsonl import dump_line
from coordeval.metrics.tables import iter_coco_results

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
            for name, table in (
                ("per_image", result.per_image),
                ("per_class", result.per_class),
                ("objects", result.objects),
            ):
                _write_parquet(table, files.new(folder / f"{name}.parquet"))
            _write_coco(iter_coco_results(result), files.new(folder / "coco_results.json"))
            if result.name_mapping is not None:
                names = dump_line(result.name_mapping)  # names may hold lone surrogates
                files.new(folder / NAMES_NAME).write_bytes(names)
            else:
                files.drop(folder / NAMES_NAME)  # that of an earlier score
            text = orjson.dumps(result.to_json(), option=orjson.OPT_INDENT_2) + b"\n"
            files.new(folder / METRICS_NAME).write_bytes(text)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    import pandas as pd

    text = table.select_dtypes(include=["object", "string"]).columns
    clean = table.copy(deep=False)
    for column in text:
        # Most columns hold few distinct texts, and none that has to be changed: no copy is made.
        distinct = {value for value in table[column] if isinstance(value, str)}
        escaped = {value: stored for value in distinct if (stored := _storable(value)) != value}
        if escaped:
            values = [
                escaped.get(value, value) if isinstance(value, str) else value
                for value in table[column]
            ]
            clean[column] = pd.Series(values, index=table.index, dtype=object)
    clean.to_parquet(path, index=False)


def _storable(value: str) -> str:
    """Text that is not valid Unicode (a lone surrogate) keeps its place as an escape."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


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
