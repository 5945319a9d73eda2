"""Ray's own words: never on stdout, which is for results.

Ray prints what it hears of dying workers from a thread of its own, to stdout, whatever it is told
about logs. These lines (workers killed for memory, tasks tried again) are worth reading: on stderr.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREAD = "ray_listen_error_messages"


class _Divided:
    """A stream that is another one, but for what Ray's thread writes: that goes to stderr."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        ray_speaks = threading.current_thread().name == _THREAD
        return int((sys.stderr if ray_speaks else self.stream).write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def divide_stdout() -> None:
    """From now on Ray's thread speaks on stderr; again and again is as good as once."""
    if not isinstance(sys.stdout, _Divided):
        sys.stdout = _Divided(sys.stdout)


def join_stdout() -> None:
    """Undo `divide_stdout`, where nobody has put another stream in its place."""
    if isinstance(sys.stdout, _Divided):
        sys.stdout = sys.stdout.stream


@contextmanager
def quiet_data() -> Iterator[None]:
    """Keep Ray Data off the console in the block; its log files have what it would say."""
    handlers = [
        handler
        for handler in logging.getLogger("ray.data").handlers
        if handler.__class__.__name__ == "PlainRayHandler"
    ]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


__all__ = ["divide_stdout", "join_stdout", "quiet_data"]
