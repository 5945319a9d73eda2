"""SIGINT and SIGTERM as an exception that never strikes in the middle of a write."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from coordeval.errors import EXIT_INTERRUPTED, EXIT_TERMINATED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Interrupted(BaseException):
    """The user or the system asked to stop; what was finished is saved.

    Not an `Exception`, so that no fence around a sample swallows it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = EXIT_TERMINATED if signal_number == signal.SIGTERM else EXIT_INTERRUPTED


class InterruptGuard:
    """Raises `Interrupted` when a signal comes, or after the write that is under way."""

    def __init__(self) -> None:
        self._held = False
        self._pending: int | None = None

    def on_signal(self, signal_number: int, _: FrameType | None) -> None:
        """Handle the signal; runs in the main thread."""
        if self._held:
            self._pending = signal_number
            return
        raise Interrupted(signal_number)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Put signals off until the block is done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending is not None:
            raise Interrupted(self._pending)


@contextmanager
def interrupt_guard(*, enabled: bool) -> Iterator[InterruptGuard]:
    """Handle signals in the block; a guard without handlers where not enabled.

    Handlers can be set in the main thread only; elsewhere nothing is changed.
    """
    guard = InterruptGuard()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield guard
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, guard.on_signal) for number in numbers]
    try:
        yield guard
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


__all__ = ["InterruptGuard", "Interrupted", "interrupt_guard"]
