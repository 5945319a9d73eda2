"""One engine that several threads ask at once, so that their requests decode side by side.

vLLM is at its best with many requests under way. Handed whole blocks one after the other, it would
run empty at the end of each; here the next block joins while the last one is being finished.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.engines.base import Request
    from coordeval.engines.vllm import VllmEngine
    from coordeval.records import Rollout


class _Call:
    """Requests of one thread, and what has come back for them."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.open = {request.key for request in requests}
        self.rollouts: list[Rollout] = []
        self.error: BaseException | None = None
        self.done = threading.Event()


class SharedEngine:
    """Feeds one engine from many threads; the engine runs in a thread of its own.

    The engine must take requests from an iterator that has none for the moment and more later, as
    vLLM's does: it asks again whenever it has room, and returns when nothing is under way.
    """

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._inbox: deque[Request] = deque()
        self._calls: list[_Call] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def answer(self, requests: Sequence[Request]) -> list[Rollout]:
        """One rollout per request, when the last one is finished; keys must differ.

        Raises what the engine raises.
        """
        if not requests:
            return []
        call = _Call(requests)
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine was closed")
            self._calls.append(call)
            self._inbox.extend(requests)
            self._changed.notify_all()
        call.done.wait()
        if call.error is not None:
            raise call.error
        return call.rollouts

    def __iter__(self) -> Iterator[Request]:
        """The inbox, as the engine reads it."""
        return self

    def __next__(self) -> Request:
        with self._changed:
            if not self._inbox:
                raise StopIteration
            return self._inbox.popleft()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._closed)
                if self._closed:
                    return
            error: BaseException | None = None
            try:
                for batch in self._engine.generate(self):
                    self._deliver(batch)
            except Exception as raised:  # noqa: BLE001 - told to the threads that wait for answers
                error = raised
            self._end_calls(error)

    def _deliver(self, batch: Sequence[Rollout]) -> None:
        with self._changed:
            for rollout in batch:
                key = rollout.id, rollout.sample_index
                call = next((call for call in self._calls if key in call.open), None)
                if call is None:
                    continue
                call.open.remove(key)
                call.rollouts.append(rollout)
                if not call.open:
                    self._calls.remove(call)
                    call.done.set()

    def _end_calls(self, error: BaseException | None) -> None:
        """After an error nobody waits on; without one, only for what is still to be read."""
        with self._changed:
            waiting = {request.key for request in self._inbox}
            for call in list(self._calls):
                if error is not None:
                    call.error = error
                elif call.open & waiting:
                    continue
                else:
                    call.error = RuntimeError("the engine ended without an answer")
                self._calls.remove(call)
                call.done.set()
            if error is not None:
                self._inbox.clear()

    def close(self) -> None:
        """End the thread once the engine is idle."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


__all__ = ["SharedEngine"]
