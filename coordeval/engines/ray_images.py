"""Images for replicas on other nodes: read there where the file is the same one, else sent.

A replica asks for the state of each file where the run was started; where the same path leads here
to a file of the same size and time of change (a shared file system, or the same machine), the path
is good enough. Else the file is read there and its bytes travel.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coordeval.engines.base import error_rollout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.engines.base import Request
    from coordeval.records import Rollout

FileState = tuple[int, int]


class Files(Protocol):
    """The files where the run was started."""

    def states(self, paths: Sequence[str]) -> list[FileState | None]:
        """State of each file; None where there is none."""
        ...

    def read(self, paths: Sequence[str]) -> list[bytes | str]:
        """Content of each file; a string says why it cannot be read."""
        ...


def file_state(path: str) -> FileState | None:
    """Bytes and time of change (ns) of a file; None where there is none to be seen."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def read_file(path: str) -> bytes | str:
    """Content of a file; a string says why it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or type(error).__name__


@contextmanager
def images_at_hand(
    requests: Sequence[Request], files: Files
) -> Iterator[tuple[list[Request], list[Rollout], dict[str, str]]]:
    """Requests whose images can be read here, while the block lasts.

    Gives them, error lines for images that cannot be had, and which path here stands for which
    path at home. A file that is missing at home too keeps its path: the engine says so itself.
    """
    paths = {str(item.image_path) for item in requests if item.image_path is not None}
    at_home = dict(zip(sorted(paths), files.states(sorted(paths)), strict=True)) if paths else {}
    foreign = sorted(
        path for path, state in at_home.items() if state is not None and file_state(path) != state
    )
    if not foreign:
        yield list(requests), [], {}
        return
    content = dict(zip(foreign, files.read(foreign), strict=True))
    with tempfile.TemporaryDirectory(prefix="coordeval-images-") as folder:
        here = _write(content, Path(folder))
        ready: list[Request] = []
        failed: list[Rollout] = []
        for request in requests:
            path = str(request.image_path)
            reason = content.get(path)
            if isinstance(reason, str):
                failed.append(error_rollout(request, f"{path}: cannot be read: {reason}"))
            elif path in here:
                sample = replace(request.sample, image_path=here[path])
                ready.append(replace(request, sample=sample))
            else:
                ready.append(request)
        yield ready, failed, {str(copy): path for path, copy in here.items()}


def _write(content: dict[str, bytes | str], folder: Path) -> dict[str, Path]:
    here: dict[str, Path] = {}
    for path, raw in content.items():
        if isinstance(raw, bytes):
            here[path] = folder / f"{len(here)}{Path(path).suffix}"
            here[path].write_bytes(raw)
    return here


__all__ = ["FileState", "Files", "file_state", "images_at_hand", "read_file"]
