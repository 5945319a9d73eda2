"""Several engines side by side on one node, one run: each in a process of its own.

Every worker opens the same source with its own share of the GPUs and answers pieces of the list of
requests; a piece is asked for again where its worker dies.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from coordeval.engines.base import error_rollout
from coordeval.errors import CoordevalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from coordeval.coords import CoordVocabulary
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Engine, Request
    from coordeval.engines.options import RolloutOptions
    from coordeval.engines.source import Source
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout

PIECES_PER_WORKER = 4
TRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """All that a worker needs to open its engine; plain data that can be sent to a process."""

    options: RolloutOptions
    prompt: Prompt
    pixels: PixelLimits | None
    decode: DecodeSettings
    dialect: Dialect
    visible_devices: str | None = None


@dataclass(slots=True)
class _Worker:
    """One process, the pipe to it, and the piece that it works on."""

    process: Any
    pipe: Connection
    piece: _Piece | None = None


@dataclass(slots=True)
class _Piece:
    """Requests that are not answered yet, by key, and how often they were handed out."""

    waiting: dict[tuple[str, int], Request]
    tries: int = field(default=0)


class ParallelSource:
    """The source of `--data-parallel N`: what is at hand is read once, engines start N times."""

    def __init__(self, options: RolloutOptions, source: Source) -> None:
        self._options, self._source = options, source
        self.checkpoint = source.checkpoint
        self.adapter = source.adapter
        self.tokenizer = source.tokenizer

    def start(
        self,
        *,
        prompt: Prompt,
        pixels: PixelLimits | None,
        decode: DecodeSettings,
        dialect: Dialect,
        notify: Callable[[str], None],
    ) -> Engine:
        """Make the engine, as `Source.start`."""
        inner = self._source.start(
            prompt=prompt, pixels=pixels, decode=decode, dialect=dialect, notify=notify
        )
        workers = [
            WorkerSettings(
                options=self._options,
                prompt=prompt,
                pixels=pixels,
                decode=decode,
                dialect=dialect,
                visible_devices=devices,
            )
            for devices in device_shares(
                self._options.data_parallel,
                self._options.tensor_parallel,
                os.environ.get("CUDA_VISIBLE_DEVICES"),
            )
        ]
        return ParallelEngine(inner, workers, batch_size=self._options.batch_size, notify=notify)


def device_shares(engines: int, per_engine: int, visible: str | None) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each engine: `per_engine` devices, in the order of the node's list.

    Where fewer devices are visible than that takes, engines share them round about; with none
    visible (a CPU) every engine gets None, which leaves the variable as it is.
    """
    devices = _visible_devices(visible)
    if not devices:
        return [None] * engines
    return [
        ",".join(
            dict.fromkeys(
                devices[(engine * per_engine + i) % len(devices)] for i in range(per_engine)
            )
        )
        for engine in range(engines)
    ]


def _visible_devices(visible: str | None) -> list[str]:
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


class ParallelEngine:
    """Hands pieces of the requests to worker processes, and yields what they finish.

    `inner` is an engine that never decodes: it says what the workers are. A worker that dies is
    reported to `notify` and its open requests are handed out again, at most twice in all; then,
    or where no worker is left, they become error lines.
    """

    def __init__(
        self,
        inner: Engine,
        workers: Sequence[WorkerSettings],
        *,
        batch_size: int,
        notify: Callable[[str], None],
    ) -> None:
        self._inner, self._settings, self._notify = inner, workers, notify
        self._batch_size = batch_size
        self._workers: list[_Worker] = []
        self._failure: BaseException | str | None = None

    def describe(self) -> dict[str, Any]:
        """What the workers are, as `Engine.describe`; their number is part of the environment."""
        described = self._inner.describe()
        environment = described["environment"] | {"data_parallel": len(self._settings)}
        return described | {"environment": environment}

    def vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens, as `Engine.vocabulary`."""
        return self._inner.vocabulary()

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield finished rollouts as workers send them; every request exactly once.

        Raises the error that kept all workers from starting.
        """
        if not requests:
            return
        todo = deque(cut_into_pieces(requests, len(self._settings), self._batch_size))
        self._start(min(len(self._settings), len(todo)))
        for worker in self._workers:
            self._hand_out(worker, todo)
        answered = False
        while any(worker.piece is not None for worker in self._workers):
            for worker in self._ready():
                batch = self._receive(worker, todo)
                if batch:
                    answered = True
                    yield batch
        lost = [request for piece in todo for request in piece.waiting.values()]
        if lost and not answered and isinstance(self._failure, CoordevalError):
            raise self._failure
        if lost:
            yield [error_rollout(request, f"all engines died: {self._failure}") for request in lost]

    def _start(self, count: int) -> None:
        context = get_context("spawn")
        while len(self._workers) < count:
            ours, theirs = context.Pipe()
            settings = self._settings[len(self._workers)]
            process = context.Process(target=work, args=(settings, theirs), daemon=False)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def _ready(self) -> list[_Worker]:
        busy = {worker.pipe: worker for worker in self._workers if worker.piece is not None}
        return [busy[pipe] for pipe in wait(list(busy)) if pipe in busy]

    def _hand_out(self, worker: _Worker, todo: deque[_Piece]) -> None:
        if not todo or worker not in self._workers:
            return
        piece = todo.popleft()
        piece.tries += 1
        worker.piece = piece
        # Where it has died, reading from its pipe says so next.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send(list(piece.waiting.values()))

    def _receive(self, worker: _Worker, todo: deque[_Piece]) -> list[Rollout]:
        """One message of a worker: rollouts, None at the end of a piece, a warning, an error."""
        assert worker.piece is not None
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._bury(worker, todo)
        if kind == "warning":
            self._notify(content)
        elif kind == "failed":
            self._failure = content
            return self._bury(worker, todo)
        elif kind == "rollouts":
            for rollout in content:
                worker.piece.waiting.pop((rollout.id, rollout.sample_index), None)
            return list(content)
        else:
            worker.piece = None
            self._hand_out(worker, todo)
        return []

    def _bury(self, worker: _Worker, todo: deque[_Piece]) -> list[Rollout]:
        """A worker is gone: its piece goes to another one, or is given up."""
        worker.process.join(timeout=10)
        self._workers.remove(worker)
        worker.pipe.close()
        self._failure = self._failure or f"exit code {worker.process.exitcode}"
        piece, worker.piece = worker.piece, None
        assert piece is not None
        self._notify(
            f"an engine of {len(self._settings)} died ({self._failure}); "
            f"{len(piece.waiting)} requests open, {len(self._workers)} engines left"
        )
        given_up: list[Rollout] = []
        if piece.tries >= TRIES:
            given_up = [
                error_rollout(request, f"{TRIES} engines died over it: {self._failure}")
                for request in piece.waiting.values()
            ]
        elif piece.waiting:
            todo.appendleft(piece)
            idle = next((other for other in self._workers if other.piece is None), None)
            if idle is not None:
                self._hand_out(idle, todo)
        return given_up

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(timeout=2)
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()
        self._inner.close()


def cut_into_pieces(requests: Sequence[Request], workers: int, batch_size: int) -> list[_Piece]:
    """About four pieces per worker, in order, each at least one batch; all requests once."""
    share = -(-len(requests) // (workers * PIECES_PER_WORKER))
    size = max(1, min(max(share, batch_size), -(-len(requests) // workers)))
    return [
        _Piece({request.key: request for request in requests[start : start + size]})
        for start in range(0, len(requests), size)
    ]


def open_engine(settings: WorkerSettings, notify: Callable[[str], None]) -> tuple[Source, Engine]:
    """The source and the engine of one worker, in this process; raises as `open_source` does."""
    from coordeval.engines.opening import open_source

    source = open_source(replace(settings.options, data_parallel=1))
    engine = source.start(
        prompt=settings.prompt,
        pixels=settings.pixels,
        decode=settings.decode,
        dialect=settings.dialect,
        notify=notify,
    )
    return source, engine


def work(settings: WorkerSettings, pipe: Connection) -> None:
    """A worker's life: open the engine, answer pieces until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    if settings.visible_devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = settings.visible_devices
    engine: Engine | None = None
    try:
        _, engine = open_engine(settings, lambda message: pipe.send(("warning", message)))
        while True:
            requests = pipe.recv()
            for batch in engine.generate(requests):
                pipe.send(("rollouts", batch))
            pipe.send(("done", None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is done
    except CoordevalError as error:
        pipe.send(("failed", error))
    except Exception as error:  # noqa: BLE001 - whatever ends a worker is told to the parent
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
    finally:
        if engine is not None:
            engine.close()


__all__ = [
    "ParallelEngine",
    "ParallelSource",
    "WorkerSettings",
    "cut_into_pieces",
    "device_shares",
    "open_engine",
    "work",
]
