"""Files replaced as a whole: a crash leaves the old content or the new one, never a part.

The new content goes into a hidden file beside the old one (`.NAME.HOST-PID.tmp`), which a process
that is killed leaves behind; the next one that writes the same file removes it.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file as a whole, durably; raises OSError and leaves what was there."""
    with FileSet() as files:
        files.new(path).write_bytes(data)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Where to write what shall stand at a path that a user named, as a whole or not at all.

    Links are followed. What is there and no regular file (a pipe, /dev/null) is written to as it
    is. Raises OSError and leaves what was there.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    with FileSet() as files:
        yield files.new(Path(os.path.realpath(path)))


class FileSet:
    """Several files that are replaced together: all are written before the first takes its place.

    `new` gives the path to write the next content of a file to. At the end of the `with` block the
    files take their places in the order of `new`; after an exception (a full disk, say) none does.
    Of several files the last one stands for the set: an old one is removed before the first new
    one comes, so that wherever it is, all of them are there and belong together. Processes that
    replace sets in one folder do so one after the other, where the folder can be locked.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []
        self._gone: list[Path] = []

    def new(self, path: Path) -> Path:
        """Where to write what shall stand at `path`."""
        remove_left_behind(path)
        temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")
        self._files.append((temporary, path))
        return temporary

    def drop(self, path: Path) -> None:
        """Let a file of an older set go, when the new ones take their places."""
        self._gone.append(path)

    def replace(self) -> None:
        """Put the files into their places."""
        for temporary, _ in self._files:
            _sync(temporary)
        with _alone_in(self._files[-1][1].parent) if len(self._files) > 1 else nullcontext():
            self._put()
        for folder in {path.parent for _, path in self._files}:
            with suppress(OSError):  # not every file system syncs folders
                _sync(folder)

    def _put(self) -> None:
        if len(self._files) > 1:
            self._files[-1][1].unlink(missing_ok=True)
        for path in self._gone:
            path.unlink(missing_ok=True)
        for temporary, path in self._files:
            temporary.replace(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.replace()
        finally:
            for temporary, _path in self._files:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes' sets out of a folder; they wait. The lock leaves no file behind.

    Where folders cannot be locked (Windows, some network mounts) nobody waits.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_left_behind(path: Path) -> None:
    """Remove what processes of this machine that are gone left beside a file."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_host())}-(\d+)\.tmp")
    with suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208 - names are enough
            match = pattern.fullmatch(name)
            if match and not _is_alive(int(match[1])):
                (path.parent / name).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 means something else there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", platform.node()) or "host"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["FileSet", "output_file", "remove_left_behind", "write_atomically"]
