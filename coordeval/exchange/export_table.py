"""The objects table as one CSV or parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.counted import counted
from coordeval.jsonl import dump_line
from coordeval.metrics.parquet import in_parts, schema_of, write_table

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    import pandas as pd


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def write_csv(table: pd.DataFrame, path: Path) -> list[str]:
    """One row per object, UTF-8, empty cells where there is no value; `values` as a JSON list.

    Text that a spreadsheet would run as a formula gets a leading `'`; the remark says how often.
    """
    clean = _valid_unicode(table)
    guarded = _guard_formulas(clean)
    clean["values"] = [
        None if values is None else dump_line(list(values)).decode().strip()
        for values in table["values"].tolist()
    ]
    with path.open("w", encoding="utf-8", newline="") as handle:
        clean.to_csv(_UnixLines(handle), index=False, lineterminator="\r\n")  # type: ignore[call-overload]
    if not guarded:
        return []
    one = "cell that a spreadsheet would run as a formula"
    several = "cells that a spreadsheet would run as formulas"
    remark = f"{counted(guarded, one, several)} got a leading '"
    return [f"{remark}; parquet holds them as they are"]


def write_parquet(table: pd.DataFrame, path: Path) -> list[str]:
    """One row per object; `values` as a list of floats."""
    import pandas as pd

    lists = [
        None if values is None else [float(value) for value in values]
        for values in table["values"].tolist()
    ]
    clean = table.assign(values=pd.Series(lists, index=table.index, dtype=object))
    write_table(in_parts(clean), schema_of(clean), path)
    return []


class _UnixLines:
    """Rows end with a line feed, yet both line ends are quoted inside cells.

    The csv module quotes no more than the line end that it writes itself.
    """

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle

    def write(self, row: str) -> int:
        """Take one row, as csv writers hand them over."""
        return self._handle.write(row.removesuffix("\r\n") + "\n")


def _guard_formulas(table: pd.DataFrame) -> int:
    """Put `'` before cells of text that begin like a formula, in place; how many there were."""
    import pandas as pd

    count = 0
    for column in table.select_dtypes(include=["object", "string"]).columns:
        values = table[column].tolist()
        risky = [isinstance(v, str) and v.startswith(_FORMULA_STARTS) for v in values]
        if any(risky):
            count += sum(risky)
            values = [f"'{v}" if risk else v for v, risk in zip(values, risky, strict=True)]
            table[column] = pd.Series(values, index=table.index, dtype=object)
    return count


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
