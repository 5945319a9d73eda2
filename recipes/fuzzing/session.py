"""Feeding one target, in a process of its own: executions counted, findings kept, costs measured.

With atheris installed, libFuzzer chooses and mixes inputs by the coverage they reach, and asks our
mutators for half of them; without it, our mutators bend seeds and what grew out of them: the same
inputs in the same order on every machine, as many as there is time for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzzing.growth import Growth, draw_pump, look_for_growth
from fuzzing.mutators import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fuzzing.growth import Pump
    from fuzzing.target import Target

HANG_SECONDS = 30
MEMORY_BYTES = 3 << 30
GROWTH_SHARE = 0.2
POOL = 400
_FLAT_BYTES = 400
"""Added to each length, so that the cost of a file and a call does not count against its bytes."""
_INSTRUMENTED = ["coordeval", "yaml", "tomllib", "fuzzing"]


class HangError(Exception):
    """An input took more than `HANG_SECONDS` of CPU time."""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What became of all inputs; written to a file often, since libFuzzer ends the process."""

    name: str
    engine: str
    executions: int = 0
    read: int = 0
    seconds: float = 0.0
    slowest_us_per_byte: float = 0.0
    slowest_bytes: int = 0
    peak_mb: float = 0.0
    findings: list[dict[str, Any]] = field(default_factory=list)
    growth: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    def write(self, path: Path) -> None:
        """Replace the file by what is known now."""
        peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.peak_mb = round(peak_kb / 1024, 1)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)


class Session:
    """One target fed for some time; the ledger is written to `out`.

    `folder` is where the target's files are written, `artifacts` takes the inputs of findings.
    """

    def __init__(
        self, target: Target, ledger: Ledger, *, out: Path, folder: Path, artifacts: Path
    ) -> None:
        self.target, self.ledger = target, ledger
        self._out, self._folder, self._artifacts = out, folder, artifacts
        self._started = time.monotonic()
        self._written = 0.0
        self._known: set[tuple[str, str]] = set()

    def feed(self, data: bytes) -> None:
        """One input; what is raised against the rules becomes a finding, once per place."""
        from fuzzing.target import run_target

        started = time.process_time()
        try:
            with _limit_of_time():
                self.ledger.read += run_target(self.target, data, self._folder)
        except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
            self._find(error, data)
        spent_us = (time.process_time() - started) * 1e6
        self.ledger.executions += 1
        cost = spent_us / (len(data) + _FLAT_BYTES)
        if self.ledger.executions > 20 and cost > self.ledger.slowest_us_per_byte:
            self.ledger.slowest_us_per_byte = round(cost, 2)
            self.ledger.slowest_bytes = len(data)
        self._write_sometimes()

    def _find(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/coordeval/" in frame.filename] or list(frames)
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        key = (type(error).__name__, place)
        if key in self._known:
            return
        self._known.add(key)
        digest = hashlib.sha256(data).hexdigest()[:12]
        self._artifacts.mkdir(parents=True, exist_ok=True)
        name = f"{self.target.name.replace(' ', '-')}-{digest}"
        (self._artifacts / name).write_bytes(data)
        text = " ".join(str(error).split())[:200]
        self.ledger.findings.append(
            {"error": key[0], "place": place, "text": text, "input": name, "bytes": len(data)}
        )

    def _write_sometimes(self) -> None:
        now = time.monotonic()
        if now - self._written > 0.5:
            self._written = now
            self.write()

    def write(self, *, finished: bool = False) -> None:
        """Write the ledger."""
        self.ledger.seconds = round(time.monotonic() - self._started, 1)
        self.ledger.finished = finished
        self.ledger.write(self._out)

    def measure_growth(self, seconds: float, rng: random.Random) -> None:
        """Look for inputs whose cost grows faster than their size."""
        if not self.target.pumped:
            return
        seeds, growth = self.target.seeds(), Growth()
        growing: Callable[[], Pump] = lambda: draw_pump(seeds, self.target.words, rng)  # noqa: E731
        look_for_growth(self.feed, growing, until=time.monotonic() + seconds, growth=growth)
        self.ledger.growth = {
            "pumps": growth.pumps,
            "measured": growth.measured,
            "exponent": round(growth.exponent, 2),
            "pump": None if growth.pump is None else [repr(part) for part in _parts(growth.pump)],
        }


def _parts(pump: Pump) -> tuple[bytes, bytes, bytes]:
    return pump.before[:80], pump.middle[:80], pump.after[:80]


@contextlib.contextmanager
def _limit_of_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise HangError(f"no end after {HANG_SECONDS} s of CPU time")

    # CPU time: on a busy machine an input is no slower. libFuzzer has SIGALRM for itself.
    earlier = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)


def run_session(
    name: str, *, seconds: float, seed: int, engine: str, out: Path, artifacts: Path
) -> None:
    """Feed one target; the result stands in `out`. Under atheris this ends the process."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with _instrumented(engine):
        from fuzzing.table import TARGETS

        target = TARGETS[name]
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))  # goes with the parent's TMPDIR
        ledger = Ledger(name=name, engine=engine)
        session = Session(target, ledger, out=out, folder=folder, artifacts=artifacts)
        seeds = target.seeds()
        for data in seeds:  # imports what the target imports late, within the instrumentation
            session.feed(data)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", module=r"PIL\..*|tensorboard\..*")
    growing = GROWTH_SHARE * seconds if target.pumped else 0.0
    session.measure_growth(growing, random.Random(f"{seed} {name} growth"))
    if engine == "atheris":
        _feed_by_coverage(session, seeds, seconds - growing, seed)
    else:  # a generator of its own: inputs do not depend on how many pumps there was time for
        _feed_at_random(session, seeds, seconds - growing, random.Random(f"{seed} {name}"))
    session.write(finished=True)


def _feed_at_random(
    session: Session, seeds: list[bytes], seconds: float, rng: random.Random
) -> None:
    pool = list(seeds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = rng.choice(pool)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = rng.choice(session.target.mutators)(data, rng)[:MAX_BYTES]
        before = session.ledger.read
        session.feed(data)
        if session.ledger.read > before and rng.random() < 0.05:
            if len(pool) - len(seeds) >= POOL:
                pool.pop(rng.randrange(len(seeds), len(pool)))
            pool.append(data)


@contextlib.contextmanager
def _instrumented(engine: str) -> Iterator[None]:
    if engine != "atheris":
        yield
        return
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        yield


def _feed_by_coverage(session: Session, seeds: list[bytes], seconds: float, seed: int) -> None:
    import atheris

    def bend(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.5:
            mixed: bytes = atheris.Mutate(data, max_size)
            return mixed
        return rng.choice(session.target.mutators)(data, rng)[:max_size]

    corpus = (
        Path(tempfile.gettempdir()) / "corpus"
    )  # the parent's TMPDIR: the next process reads on
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data[:MAX_BYTES])
    arguments = [
        sys.argv[0],
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed + 1}",
        f"-max_len={MAX_BYTES}",
        f"-timeout={10 * HANG_SECONDS}",  # in wall-clock time: what waits, and uses no CPU
        "-rss_limit_mb=4096",
        "-verbosity=0",
        "-print_final_stats=0",
        f"-artifact_prefix={session._artifacts}{os.sep}",  # noqa: SLF001 - two halves of one thing
        str(corpus),
    ]
    atheris.Setup(arguments, session.feed, custom_mutator=bend)
    with contextlib.suppress(SystemExit):
        atheris.Fuzz()


__all__ = ["HANG_SECONDS", "Ledger", "Session", "run_session"]
