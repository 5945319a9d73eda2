"""Slot telemetry on disk: an append-only log while a run is made, one parquet table afterwards.

`slots.pending.jsonl` holds one line per rollout that came with slots, written before the rollout's
own line, so that a finished rollout always has its slots. `slots.parquet` is made of it, and of
the table that may be there already, when the run ends; after a kill, readers see both.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from coordeval.atomic import FileSet
from coordeval.errors import DataError
from coordeval.jsonl import dump_line, load_json, read_lines
from coordeval.line_log import LineLog
from coordeval.records import GEOMETRY_KINDS, SlotReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pandas as pd

    from coordeval.records import Rollout

SLOTS_NAME = "slots.parquet"
_SUM = b',"line_crc32":"'  # ends the content of a line of the log
PENDING_NAME = "slots.pending.jsonl"

Key = tuple[str, int]

_DTYPES: dict[str, str] = {
    "id": "object",
    "sample_index": "int64",
    "token": "int64",
    "record": "int64",
    "slot": "int64",
    "kind": "object",
    "written_id": "int64",
    "written_bin": "Int64",
    "coord_mass": "Float64",
    "mass_bound": "float64",
    "top_bin": "Int64",
    "top_prob": "Float64",
    "entropy": "Float64",
    "other_id": "Int64",
    "other_text": "object",
    "other_prob": "Float64",
}
SLOT_COLUMNS: tuple[str, ...] = tuple(_DTYPES)
"""Columns of the table: the rollout's key, then the fields of a SlotReading."""


class SlotLog:
    """Appends the slots of rollouts to a run; safe against kill -9. The file is made when needed.

    One writer at a time, as the run's lock sees to.
    """

    def __init__(self, run_path: Path) -> None:
        self._path = run_path / PENDING_NAME
        self._log = LineLog(self._path) if self._path.exists() else None

    def append(self, rollouts: Iterable[Rollout]) -> None:
        """Write a line for each rollout whose `slots` are not None, and sync it to the disk."""
        lines = [_log_line(rollout) for rollout in rollouts if rollout.slots is not None]
        if not lines:
            return
        if self._log is None:
            self._log = LineLog(self._path)
        self._log.append(b"".join(lines))

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._log is not None:
            self._log.close()
            self._log = None


def store_slots(rollouts_path: Path) -> None:
    """Make slots.parquet beside the rollouts, rows in the order of their lines, and drop the log.

    Slots of rollouts without a line are left out. Nothing happens in a run without telemetry. The
    log goes only when the table stands, so that nothing is lost in between.
    """
    folder = rollouts_path.parent
    slots = load_slots(folder)
    if slots is None:
        return
    _write_table(folder / SLOTS_NAME, _to_table(slots, rollouts_path))
    (folder / PENDING_NAME).unlink(missing_ok=True)


def load_slots(folder: Path) -> dict[Key, list[SlotReading]] | None:
    """All readings of a run directory by `slot_key`; None where it has no telemetry.

    Raises DataError where the table or the log cannot be read. Later readings of a rollout
    replace earlier ones; a torn last line of the log is left out.
    """
    table_path, pending_path = folder / SLOTS_NAME, folder / PENDING_NAME
    has_table, has_log = table_path.exists(), pending_path.exists()
    if not (has_table or has_log):
        return None
    slots = _from_table(_read_table(table_path)) if has_table else {}
    if has_log:
        slots.update(_iter_log(pending_path))
    return slots


def load_slot_table(rollouts_path: Path) -> pd.DataFrame | None:
    """The readings beside these rollouts, what a killed run left in its log among them.

    Columns and types as `SLOT_COLUMNS`; unknown values are `pd.NA`, or None in columns of text.
    None where there is no telemetry. Raises DataError where it cannot be read.
    """
    folder = rollouts_path.parent
    if (folder / PENDING_NAME).exists():
        return _to_table(load_slots(folder) or {}, rollouts_path)
    path = folder / SLOTS_NAME
    return _read_table(path) if path.exists() else None


def slot_key(rollout_id: str, sample_index: int) -> Key:
    """What tells a rollout's slots from others: ids that are not valid Unicode are escaped."""
    return _storable(rollout_id), sample_index


def _line_keys(rollouts_path: Path) -> list[Key]:
    """The keys of the rollout lines in order, each once; a torn last line has none."""
    keys: dict[Key, None] = {}
    for number, line in read_lines(rollouts_path):
        if not line.endswith(b"\n"):
            break
        try:
            raw = load_json(line)
            keys[slot_key(str(raw["id"]), int(raw.get("sample_index") or 0))] = None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{rollouts_path}:{number}: not a rollout line: {error}") from None
    return list(keys)


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        with path.open("rb") as handle:  # pyarrow takes no path that is not valid UTF-8
            table = pd.read_parquet(
                handle, dtype_backend="numpy_nullable", page_checksum_verification=True
            )
        return _typed({name: table[name].tolist() for name in SLOT_COLUMNS})
    except KeyError as error:
        raise DataError(f"{path}: not a slot table: column {error} is missing") from None
    except (OSError, ValueError, TypeError, MemoryError, pa.ArrowException) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read: {said}") from None


def check_log(folder: Path) -> None:
    """DataError, with its line, where the log of a run cannot be read; fine without one."""
    if (folder / PENDING_NAME).exists():
        for _ in _iter_log(folder / PENDING_NAME):
            pass


def _log_line(rollout: Rollout) -> bytes:
    """A line of the log, with a checksum of its bytes: no text could bring a number back."""
    slots = [*map(list, rollout.slots or ())]
    content = {"id": rollout.id, "sample_index": rollout.sample_index, "slots": slots}
    head = dump_line(content)[:-2]
    return head + _SUM + f'{zlib.crc32(head):08x}"}}\n'.encode()


def _sound(line: bytes) -> Any:
    """What a line of the log says; ValueError where it is no JSON or its checksum does not fit."""
    head, mark, found = line.rpartition(_SUM)
    if mark and found != f'{zlib.crc32(head):08x}"}}\n'.encode():
        raise ValueError("damaged: its checksum does not fit")
    return load_json(line)


def _iter_log(path: Path) -> Iterator[tuple[Key, list[SlotReading]]]:
    """Readings line by line; a line without a checksum is read as it stands."""
    for number, line in read_lines(path):
        if not line.endswith(b"\n"):
            break  # torn: its rollout has no line either
        try:
            raw = _sound(line)
            key = slot_key(str(raw["id"]), int(raw["sample_index"]))
            slots = [SlotReading(*fields) for fields in raw["slots"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: not a line of slots: {error}; delete it and the line of its "
                "rollout: the same rollout then makes both again"
            ) from None
        yield key, slots


def _from_table(table: pd.DataFrame) -> dict[Key, list[SlotReading]]:
    import pandas as pd

    slots: dict[Key, list[SlotReading]] = {}
    columns = [
        [None if value is pd.NA else value for value in table[name].tolist()]
        for name in SLOT_COLUMNS
    ]
    for rollout_id, sample_index, *fields in zip(*columns, strict=True):
        reading: Any = SlotReading(*fields)
        slots.setdefault((rollout_id, sample_index), []).append(reading)
    return slots


def _to_table(slots: dict[Key, list[SlotReading]], rollouts_path: Path) -> pd.DataFrame:
    """Rows in the order of the lines; lines without slots have none.

    Raises DataError where readings are of other types, as a log without checksums may hold them.
    """
    keys = _line_keys(rollouts_path)
    rows = [(*key, *reading) for key in keys for reading in slots.get(key, ())]
    columns = [*map(list, zip(*rows, strict=True))] if rows else [[] for _ in SLOT_COLUMNS]
    try:
        return _typed(dict(zip(SLOT_COLUMNS, columns, strict=True)))
    except (ValueError, TypeError, OverflowError) as error:
        path = rollouts_path.with_name(PENDING_NAME)
        raise DataError(f"{path}: not a log of slots: {error}") from None


def _typed(columns: dict[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd

    data: dict[str, Any] = {}
    for name, dtype in _DTYPES.items():
        values = columns[name]
        if dtype == "object":
            values = [None if value is pd.NA else value for value in values]
        data[name] = pd.Series(values, dtype=dtype)
    table = pd.DataFrame(data)
    unknown = set(table["kind"]) - set(GEOMETRY_KINDS)
    if unknown:
        raise ValueError(f"kind {min(map(str, unknown))!r} is unknown")
    return table


def _write_table(path: Path, table: pd.DataFrame) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"object": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    # Given, since an empty column or one of nothing but None would not show its type.
    schema = pa.schema([(name, types[dtype.lower()]) for name, dtype in _DTYPES.items()])
    texts: Any = [_storable_or_none(text) for text in table["other_text"]]
    clean = table.assign(other_text=texts)
    arrow = pa.Table.from_pandas(clean, schema=schema, preserve_index=False)
    # Opened here: pyarrow takes no path that is not valid UTF-8.
    with FileSet() as files, files.new(path).open("wb") as handle:
        # Telemetry cannot be made again from the texts, so a damaged page must show as such.
        pq.write_table(arrow, handle, write_page_checksum=True)


def _storable(text: str) -> str:
    """Text that is not valid Unicode (a lone surrogate) keeps its place as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _storable_or_none(text: str | None) -> str | None:
    return None if text is None else _storable(text)


__all__ = [
    "PENDING_NAME",
    "SLOTS_NAME",
    "SLOT_COLUMNS",
    "SlotLog",
    "check_log",
    "load_slot_table",
    "load_slots",
    "slot_key",
    "store_slots",
]
