"""Tables to parquet, row group by row group, so that no second copy of a large one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

PART_ROWS = 16_384


def schema_of(table: pd.DataFrame) -> pa.Schema:
    """The types of a table's columns in parquet; a column of None alone has the type null."""
    import pyarrow as pa

    return pa.Schema.from_pandas(_storable(table), preserve_index=False)


def in_parts(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table some thousand rows at a time; an empty one once."""
    for first in range(0, max(len(table), 1), PART_ROWS):
        yield table.iloc[first : first + PART_ROWS]


def write_table(parts: Iterable[pd.DataFrame], schema: pa.Schema, path: Path) -> None:
    """Write parts of one table, each as a row group, with the types of the whole (`schema`).

    Text that is not valid Unicode (a lone surrogate) keeps its place as an escape.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Opened here: pyarrow takes no path that is not valid UTF-8.
    with path.open("wb") as handle, pq.ParquetWriter(handle, schema) as writer:
        for part in parts:
            writer.write_table(
                pa.Table.from_pandas(_storable(part), schema=schema, preserve_index=False)
            )


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    text = table.select_dtypes(include=["object", "string"]).columns
    clean = table.copy(deep=False)
    for column in text:
        # Most columns hold few distinct texts, and none that has to be changed: no copy is made.
        distinct = {value for value in table[column] if isinstance(value, str)}
        escaped = {value: other for value in distinct if (other := _valid(value)) != value}
        if escaped:
            values = [
                escaped.get(value, value) if isinstance(value, str) else value
                for value in table[column]
            ]
            clean[column] = pd.Series(values, index=table.index, dtype=object)
    return clean


def _valid(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


__all__ = ["PART_ROWS", "in_parts", "schema_of", "write_table"]
