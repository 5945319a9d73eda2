"""Coroutines behind plain calls and plain iterators: an event loop in a thread of its own.

The caller's thread stays free for signals, and may itself run an event loop (a notebook does).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")
_DONE = object()


class _Job:
    """One coroutine in one thread; `on_done` is called in that thread when it is over."""

    def __init__(self, main: Coroutine[Any, Any, Any], on_done: Callable[[], None]) -> None:
        self._main, self._on_done = main, on_done
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._lock = threading.Lock()
        self._cancelled = False
        self.value: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="coordeval-server", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = asyncio.run(self._guarded())
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that waits
            self.error = error
        finally:
            self._on_done()

    async def _guarded(self) -> Any:
        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._cancelled:
                self._main.close()
                raise asyncio.CancelledError
        return await self._main

    def stop(self) -> None:
        """Cancel what still runs, and wait until every connection is closed."""
        with self._lock:
            self._cancelled = True
            if self._loop is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):  # the loop closes at this very moment
                    self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


def iterate(start: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Iterator[list[T]]:
    """What a coroutine hands to its callback, as it comes: all that is there in one list.

    Closing the iterator cancels the coroutine. Raises what the coroutine raises, at the end.
    """
    queue: SimpleQueue[Any] = SimpleQueue()
    job = _Job(start(queue.put), on_done=lambda: queue.put(_DONE))
    try:
        done = False
        while not done:
            batch = [queue.get()]
            try:
                while True:
                    batch.append(queue.get_nowait())
            except Empty:
                pass
            done = batch[-1] is _DONE
            items = cast("list[T]", batch[:-1] if done else batch)
            if items:
                yield items
        if job.error is not None:
            raise job.error
    finally:
        job.stop()


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; cancelled where the wait for it is interrupted."""
    queue: SimpleQueue[Any] = SimpleQueue()
    job = _Job(main, on_done=lambda: queue.put(_DONE))
    try:
        queue.get()
        if job.error is not None:
            raise job.error
        return cast("T", job.value)
    finally:
        job.stop()


__all__ = ["iterate", "run_to_end"]
