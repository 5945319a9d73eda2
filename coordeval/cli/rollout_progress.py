"""Progress of a rollout on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from rich.progress import TaskID

    from coordeval.engines.progress import Progress

LINE_EVERY_S = 10.0


class ProgressView:
    """Shows `Progress` snapshots; a context manager, since a bar has to be taken down again."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(file=sys.stderr)
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._last_line_at: float | None = None
        if self._console.is_terminal:
            self._bar = RichProgress(
                TextColumn("rollout"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                console=self._console,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show a snapshot; lines are printed at the start, every ten seconds and at the end."""
        facts = describe_progress(progress)
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("rollout", total=progress.total, facts="")
            self._bar.update(self._task, completed=progress.done, facts=facts)
            return
        now = time.monotonic()
        due = self._last_line_at is None or now - self._last_line_at >= LINE_EVERY_S
        if due or progress.done == progress.total:
            self._last_line_at = now
            self.note(f"rollout {progress.done}/{progress.total}  {facts}".rstrip())

    def note(self, message: str) -> None:
        """Print a line to stderr, above the bar where there is one."""
        from coordeval.reports.printable import printable

        # Line by line: notes may have several, and repeat file names and a server's words.
        for line in message.split("\n"):
            self._console.print(
                printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True
            )


def describe_progress(progress: Progress) -> str:
    """The changing numbers of a snapshot on one line; what is not known yet is left out."""
    parts = []
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tok/s")
    if progress.drop_rate is not None:
        parts.append(f"drops {100 * progress.drop_rate:.1f} %")
    if progress.errors:
        parts.append(f"errors {progress.errors}")
    if progress.eta_seconds is not None and progress.done < progress.total:
        minutes, seconds = divmod(round(progress.eta_seconds), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"ETA {hours}:{minutes:02}:{seconds:02}")
    return "  ".join(parts)


__all__ = ["ProgressView", "describe_progress"]
