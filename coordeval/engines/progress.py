"""Where a rollout stands: counts for a progress bar, with the live drop rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A snapshot; `done` counts finished lines of the whole run, the rest what this call made."""

    total: int
    done: int
    made: int
    errors: int
    tokens: int
    seconds: float
    objects_found: int
    objects_valid: int

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens per second; None before anything was made."""
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None

    @property
    def drop_rate(self) -> float | None:
        """Share of found records that were dropped; None before a record was found."""
        if not self.objects_found:
            return None
        return 1.0 - self.objects_valid / self.objects_found

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to go at the pace so far; None before anything was made."""
        if not self.made:
            return None
        return (self.total - self.done) * self.seconds / self.made


class ProgressCounter:
    """Counts finished batches; reads each text once, by the rules that scoring uses."""

    def __init__(
        self,
        *,
        total: int,
        resumed: int,
        dialect: Dialect,
        report: Callable[[Progress], None] | None,
    ) -> None:
        self._report = report
        self._dialect = dialect
        self._total, self._resumed = total, resumed
        self._made = self._errors = self._tokens = self._found = self._valid = 0
        self._started = time.perf_counter()
        self._tell()

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Count a batch and report."""
        if self._report is None:
            return
        from coordeval.parsers import parse

        for rollout in rollouts:
            self._made += 1
            if rollout.failed:
                self._errors += 1
                continue
            self._tokens += len(rollout.token_ids or ())
            parsed = parse(rollout.text, self._dialect)
            self._found += parsed.objects_found
            self._valid += parsed.objects_valid
        self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            self._report(
                Progress(
                    total=self._total,
                    done=self._resumed + self._made,
                    made=self._made,
                    errors=self._errors,
                    tokens=self._tokens,
                    seconds=time.perf_counter() - self._started,
                    objects_found=self._found,
                    objects_valid=self._valid,
                )
            )


__all__ = ["Progress", "ProgressCounter"]
