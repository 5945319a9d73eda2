"""Standard streams that are closed, or whose reader leaves: what is printed there is lost, no more.

A rollout of hours must not end because a terminal, a pager or the disk of its log is gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_STDERR = 2  # the last of the standard descriptors


def keep_streams_usable() -> None:
    """Go on into nothing where stdin, stdout or stderr was closed, or where a reader leaves.

    The exit code of a verb is the same then. A full disk behind stdout is an error, since data
    were asked for there; stderr may fail as it likes.
    """
    _open_closed()
    _survive(sys.stdout, BrokenPipeError)
    _survive(sys.stderr, OSError)


def drop_unwritable(stream: Any) -> None:
    """What a stream cannot take (a full disk behind `>`) must not fail again at the very end."""
    try:
        stream.flush()
    except OSError:
        _redirect_to_nothing(stream)


def _open_closed() -> None:
    """Fill descriptors 0 to 2: else the next file gets one, and whoever prints prints into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - stays open
            setattr(sys, name, nothing)


def _survive(stream: Any, lost: type[OSError]) -> None:
    """Where the reader has left (head, less), go on into nothing."""

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            try:
                return call(*args)
            except lost:
                _redirect_to_nothing(stream)
                return None

        return run

    stream.write, stream.flush = guarded(stream.write), guarded(stream.flush)


def _redirect_to_nothing(stream: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


__all__ = ["drop_unwritable", "keep_streams_usable"]
