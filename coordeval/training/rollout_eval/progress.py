"""What an evaluation says while it runs: one line now and then on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordeval.engines.progress import Progress

SECONDS_BETWEEN = 10.0


def say(text: str) -> None:
    """One line on stderr, whatever it is attached to."""
    from coordeval.reports.printable import printable

    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


class EvalProgress:
    """Counts of one evaluation, at most every ten seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Hear where the rollouts stand."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        text = f"rollout evaluation {self._name}: {progress.done} of {progress.total}"
        if progress.drop_rate is not None:
            text += f", {100 * progress.drop_rate:.1f} % of records dropped"
        if progress.eta_seconds is not None:
            text += f", {progress.eta_seconds:.0f} s to go"
        say(text)


__all__ = ["EvalProgress", "say"]
