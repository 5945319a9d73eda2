"""JSON lines on disk: whole-line appends, torn last lines, and text that is not valid Unicode."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def dump_line(value: Any) -> bytes:
    """One JSON line with its newline; lone surrogates survive as escapes, NaN becomes null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return json.dumps(value, ensure_ascii=True).encode("ascii") + b"\n"


def load_json(data: bytes) -> Any:
    """Parse JSON strictly; lone surrogate escapes are kept, NaN and Infinity refused.

    Raises ValueError with the parser's own words.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # orjson refuses lone surrogates, which json reads; anything else json refuses as well.
        try:
            return json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise ValueError(str(error)) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Non-blank lines with their 1-based number; DataError where the file cannot be read."""
    try:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


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


__all__ = ["dump_line", "load_json", "read_lines", "truncate_torn_tail"]
