"""A score to disk: metrics.json and the tables, each file replaced as a whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from coordeval.errors import DataError
from coordeval.runs import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from coordeval.metrics.result import ScoreResult

METRICS_NAME = "metrics.json"


def write_score(result: ScoreResult, folder: Path) -> None:
    """Write metrics.json, per_image, per_class, objects (.parquet) and coco_results.json.

    Makes the folder where it is missing. metrics.json comes last, so that a folder which holds it
    is complete. Raises DataError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (
            ("per_image", result.per_image),
            ("per_class", result.per_class),
            ("objects", result.objects),
        ):
            _write_parquet(table, folder / f"{name}.parquet")
        write_atomically(folder / "coco_results.json", orjson.dumps(result.coco_results))
        text = orjson.dumps(result.to_json(), option=orjson.OPT_INDENT_2) + b"\n"
        write_atomically(folder / METRICS_NAME, text)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    import pandas as pd

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = table.select_dtypes(include=["object", "string"]).columns
    clean = table.copy(deep=False)
    for column in text:
        values = [_storable(value) for value in table[column].tolist()]
        clean[column] = pd.Series(values, index=table.index, dtype=object)
    clean.to_parquet(temporary, index=False)
    temporary.replace(path)


def _storable(value: object) -> object:
    """Text that is not valid Unicode (a lone surrogate) keeps its place as an escape."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


__all__ = ["METRICS_NAME", "write_score"]
