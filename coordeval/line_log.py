"""A file of lines that is only appended to: what is in it is whole, whatever happens."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from coordeval.jsonl import truncate_torn_tail

if TYPE_CHECKING:
    from pathlib import Path


class LineLog:
    """Appends whole lines to a file and syncs them to the disk; the file is made where missing.

    A torn last line, as a kill leaves it, is cut off on opening: `cut_bytes` says how much. One
    writer at a time, as the run's lock sees to. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        path.touch(exist_ok=True)
        # Without a buffer: after a write that failed, nothing may be left to be written later.
        self._handle = path.open("r+b", buffering=0)
        try:
            self.cut_bytes = truncate_torn_tail(self._handle)
            self._end = self._handle.tell()
        except BaseException:
            self._handle.close()
            raise

    def append(self, lines: bytes) -> None:
        """Add lines, all of them or none: what a full disk took of them is cut off again."""
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self._handle.write(rest) :]
            os.fsync(self._handle.fileno())
        except BaseException:
            with suppress(OSError):  # a torn tail is cut on the next opening as well
                self._handle.truncate(self._end)
                self._handle.seek(self._end)
            raise
        self._end += len(lines)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._handle.close()


__all__ = ["LineLog"]
