"""The rollout driver: requests through an engine into a run directory, resumable at any point."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.engines.base import Request, request_seed
from coordeval.engines.identity import keep_stored_labels
from coordeval.engines.interrupts import Interrupted, interrupt_guard
from coordeval.engines.progress import ProgressCounter
from coordeval.engines.rewrite import drop_error_lines, restore_order
from coordeval.errors import EXIT_INCOMPLETE, EXIT_OK, CoordevalError
from coordeval.runs import META_NAME, RunWriter, open_run, read_meta

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordeval.engines.base import DecodeSettings, Engine
    from coordeval.engines.progress import Progress
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout, Sample

Key = tuple[str, int]


class RolloutsStopped(Exception):  # noqa: N818 - an outcome, not a fault
    """Raised by `on_progress` to end a run for now: what is done is kept, to be gone on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a rollout ended; `counts` as run.json stores them, `missing` the keys without a line.

    `cut_bytes` is the length of a torn last line that was cut off and made again.
    """

    path: Path
    status: str
    counts: dict[str, Any]
    missing: tuple[Key, ...]
    resumed: int
    cut_bytes: int = 0

    def exit_code(self, max_errors: int = 0) -> int:
        """0 where every id has exactly one line and errors are few enough, else 3."""
        complete = self.status == "complete" and self.counts["rollouts"] > 0
        return EXIT_OK if complete and self.counts["errors"] <= max_errors else EXIT_INCOMPLETE


def run_rollouts(
    engine: Engine,
    samples: Sequence[Sample],
    *,
    out: Path,
    identity: dict[str, Any],
    extra: dict[str, Any],
    decode: DecodeSettings,
    dialect: Dialect,
    retry_errors: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    handle_signals: bool = False,
) -> Outcome:
    """Make the rollouts that `out` still lacks, and store the run's status and counts.

    The engine is only asked for what is missing; with nothing missing it is not asked at all.
    Every batch is on the disk before the next one is counted, so a kill loses at most the batch
    under way. Raises RunMismatchError where `out` belongs to another identity, RunLockedError
    where another process writes it, RunNotWritten where it can be written no more, and
    `Interrupted` (with `handle_signals`) after a signal. After that, or what `on_progress` stops
    it with (RolloutsStopped), its status is `interrupted`; `failed` after any other error.
    """
    requests = make_requests(samples, decode)
    if (out / META_NAME).exists():
        identity = keep_stored_labels(identity, read_meta(out / META_NAME))
    if retry_errors:
        RunWriter(out, identity=identity, extra=extra).close()  # refuses another run's folder
        drop_error_lines(out)
    with (
        RunWriter(out, identity=identity, extra=extra) as writer,
        interrupt_guard(enabled=handle_signals) as guard,
    ):
        todo = [request for request in requests if request.key not in writer.finished]
        resumed = len(requests) - len(todo)
        try:
            counter = ProgressCounter(
                total=len(requests), resumed=resumed, dialect=dialect, report=on_progress
            )
            if todo:
                _generate(engine, todo, writer, counter, guard)
        except (Interrupted, KeyboardInterrupt, SystemExit, RolloutsStopped):
            _note_ending(writer, "interrupted", requests)
            raise
        except BaseException:
            _note_ending(writer, "failed", requests)
            raise
        # Under the lock and before the run is called complete: a run that says so is in order.
        restore_order(out, [request.key for request in requests], is_locked=True)
        counts = count_lines(out, requests)
        missing = tuple(request.key for request in requests if request.key not in writer.finished)
        complete = not missing and not counts["unexpected"] and not counts["repeated"]
        status = "complete" if complete else "incomplete"
        writer.finish(status, counts)
    return Outcome(
        path=out,
        status=status,
        counts=counts,
        missing=missing,
        resumed=resumed,
        cut_bytes=writer.cut_bytes,
    )


def _note_ending(writer: RunWriter, status: str, requests: Sequence[Request]) -> None:
    """Store how a run ended as far as that goes: what ended it must not be hidden by a full disk.

    Where it cannot be stored the status stays `running`, as after a kill.
    """
    with suppress(CoordevalError):
        writer.finish(status, count_lines(writer.path, requests))


def make_requests(samples: Sequence[Sample], decode: DecodeSettings) -> list[Request]:
    """One request per sample and sample index, each with the seed of its own random stream."""
    return [
        Request(
            sample=sample,
            sample_index=index,
            seed=request_seed(decode.seed, sample.id, index),
        )
        for sample in samples
        for index in range(decode.samples)
    ]


def _generate(
    engine: Engine,
    todo: Sequence[Request],
    writer: RunWriter,
    counter: ProgressCounter,
    guard: Any,
) -> None:
    asked = {request.key for request in todo}
    for batch in engine.generate(todo):
        _check_answers(batch, asked)
        with guard.holding():
            writer.append(batch)
        counter.add(batch)


def _check_answers(batch: Sequence[Rollout], asked: set[Key]) -> None:
    """An engine must answer each request once: anything else would spoil the run in silence."""
    for rollout in batch:
        key = (rollout.id, rollout.sample_index)
        if key not in asked:
            raise RuntimeError(f"the engine answered {key}, which was not asked for, or twice")
        asked.remove(key)


def count_lines(out: Path, requests: Sequence[Request]) -> dict[str, Any]:
    """Counts over the lines of a run, read back from the disk, reconciled with what was asked."""
    asked = Counter(request.key for request in requests)
    seen: Counter[Key] = Counter()
    reasons: Counter[str] = Counter()
    tokens = errors = 0
    for rollout in open_run(out).rollouts():
        seen[rollout.id, rollout.sample_index] += 1
        reasons[rollout.finish_reason or "unknown"] += 1
        tokens += len(rollout.token_ids or ())
        errors += rollout.failed
    return {
        "samples": len({request.id for request in requests}),
        "rollouts": len(requests),
        "finished": sum(1 for key in asked if key in seen),
        "errors": errors,
        "unexpected": sum(1 for key in seen if key not in asked),
        "repeated": sum(count - 1 for count in seen.values()),
        "tokens": tokens,
        "finish_reasons": dict(sorted(reasons.items())),
    }


__all__ = ["Outcome", "RolloutsStopped", "count_lines", "make_requests", "run_rollouts"]
