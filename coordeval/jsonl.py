"""JSON lines on disk: whole-line appends, torn last lines, and text that is not valid Unicode."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MAX_LINE_BYTES = 64 << 20
"""A longer line is refused before it is parsed; a rollout of 100,000 tokens takes about 3 MiB."""

MAX_DOCUMENT_BYTES = 512 << 20
"""A longer file is not read as one document (run.json, scores, parts of a checkpoint, lists)."""

_PIECE_BYTES = 1 << 20


def dump_line(value: Any) -> bytes:
    """One JSON line with its newline; lone surrogates survive as escapes, NaN becomes null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return json.dumps(_finite(value), ensure_ascii=True).encode("ascii") + b"\n"


def dump_document(value: Any) -> bytes:
    """An indented JSON document, of the same values as `dump_line`."""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2)
    except TypeError:
        return json.dumps(_finite(value), ensure_ascii=True, indent=2).encode("ascii")


def dump_sorted(value: Any) -> bytes:
    """JSON whose keys are sorted, the same for equal values however they were written."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(_finite(value), sort_keys=True, ensure_ascii=True).encode("ascii")


def _finite(value: Any) -> Any:
    """The value with None for numbers that JSON cannot hold, as orjson writes them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def load_json(data: bytes) -> Any:
    """Parse JSON strictly; lone surrogate escapes are kept, NaN and Infinity refused.

    Of keys that stand twice the last one counts. Integers beyond 64 bits are floats; numbers that
    no float holds (1e999) are infinite. Raises ValueError with the parser's own words.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # orjson refuses lone surrogates, which json reads; anything else json refuses as well.
        try:
            return json.loads(data, parse_constant=_refuse_constant, parse_int=_integer)
        except (ValueError, RecursionError):
            raise ValueError(str(error)) from None


def read_document(path: Path) -> bytes:
    """The content of a file that is read whole; ValueError above `MAX_DOCUMENT_BYTES`.

    Nothing is read of a file that is longer by its own word. Raises OSError as it comes.
    """
    with path.open("rb") as handle:
        is_larger = os.fstat(handle.fileno()).st_size > MAX_DOCUMENT_BYTES
        left = -1 if is_larger else MAX_DOCUMENT_BYTES
        pieces: list[bytes] = []
        # In pieces: a single read of so much would ask for all of the memory at once.
        while left >= 0 and (piece := handle.read(_PIECE_BYTES)):
            pieces.append(piece)
            left -= len(piece)
    if left < 0:
        raise ValueError(f"larger than {MAX_DOCUMENT_BYTES >> 20} MiB, not read")
    return b"".join(pieces)


def load_document(path: Path) -> Any:
    """The JSON document of a file, as `load_json`; raises as that and `read_document` do."""
    return load_json(read_document(path))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int | float:
    """As orjson reads them, so that a surrogate elsewhere in a line changes no number."""
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 64 else float(text)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Non-blank lines with their 1-based number.

    Never holds more than `MAX_LINE_BYTES` of the file. DataError where the file cannot be read,
    and, with its number, for a longer line.
    """
    try:
        with path.open("rb") as handle:
            for number, line in bounded_lines(handle, str(path)):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def bounded_lines(handle: BinaryIO, where: str) -> Iterator[tuple[int, bytes]]:
    """All lines with their 1-based number; DataError for one above `MAX_LINE_BYTES`."""
    number = 0
    while line := handle.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{where}:{number}: line longer than {MAX_LINE_BYTES >> 20} MiB")
        yield number, line


def truncate_torn_tail(handle: BinaryIO) -> int:
    """Cut an unfinished last line (one without a newline); returns the bytes removed.

    `handle` must be open for reading and writing; it is left at the end of the file.
    """
    handle.seek(0, os.SEEK_END)
    size = handle.tell()
    end = size
    block = 1 << 16
    while end > 0:
        start = max(0, end - block)
        handle.seek(start)
        newline = handle.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        handle.truncate(end)
    handle.seek(end)
    return size - end


__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_LINE_BYTES",
    "bounded_lines",
    "dump_document",
    "dump_line",
    "load_document",
    "load_json",
    "read_document",
    "read_lines",
    "truncate_torn_tail",
]
