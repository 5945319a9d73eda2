"""The objects table as one CSV or parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.jsonl import dump_line

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """One row per object, UTF-8, empty cells where there is no value; `values` as a JSON list."""
    clean = _valid_unicode(table)
    clean["values"] = [
        None if values is None else dump_line(list(values)).decode().strip()
        for values in table["values"].tolist()
    ]
    clean.to_csv(path, index=False, lineterminator="\n")


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """One row per object; `values` as a list of floats."""
    clean = _valid_unicode(table)
    import pandas as pd

    lists = [
        None if values is None else [float(value) for value in values]
        for values in table["values"].tolist()
    ]
    clean["values"] = pd.Series(lists, index=table.index, dtype=object)
    clean.to_parquet(path, index=False)


def _valid_unicode(table: pd.DataFrame) -> pd.DataFrame:
    """A copy in which lone surrogates, which no file format holds, are escapes."""
    import pandas as pd

    clean = table.copy(deep=False)
    for column in table.select_dtypes(include=["object", "string"]).columns:
        values = [
            value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for value in table[column].tolist()
        ]
        clean[column] = pd.Series(values, index=table.index, dtype=object)
    return clean


__all__ = ["write_csv", "write_parquet"]
