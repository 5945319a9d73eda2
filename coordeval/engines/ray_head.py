"""Whether the head of a Ray cluster is still there, and the end of a run where it is not.

Without its head nothing on a cluster goes on, and Ray ends this process from a thread of its own,
with exit code 1 and no chance to say or store anything. So the head is asked here as well, and the
run ends before that, as any other run that cannot go on: what was finished is stored.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coordeval.engines.ray_address import first_frame
from coordeval.errors import RunIncomplete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PATIENCE_S = 45.0
"""How long the head may be silent. Ray's workers wait a minute, and then say much about it."""
RAY_PATIENCE_S = 180.0
_EVERY_S = 5.0
_SIGNAL = signal.SIGUSR1
_OWN_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HeadLost(RunIncomplete):
    """The head of the Ray cluster went away in mid-run; what was finished is stored."""


def let_us_speak_first() -> None:
    """Make Ray wait longer than we do; to be called before Ray is imported, an own value stays."""
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", f"{RAY_PATIENCE_S:.0f}")


class HeadWatch:
    """Asks the head every few seconds; `HeadLost` strikes in blocks of `striking`.

    `address` is HOST:PORT of the head, `patience_s` how long it may be silent (None: `PATIENCE_S`).
    Exceptions can strike the main thread alone: elsewhere the blocks only look before they begin.
    """

    def __init__(
        self, address: str, *, patience_s: float | None = None, every_s: float = _EVERY_S
    ) -> None:
        self._address, self._every_s = address, every_s
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._lost = self._inside = False
        self._ended = threading.Event()
        self._lock = threading.Lock()  # no signal is sent to a handler that is gone
        self._kept: list[Any] = []  # the handler that was there
        self._main = threading.main_thread()
        self._thread = threading.Thread(target=self._watch, name="coordeval-ray-head", daemon=True)
        self._thread.start()

    @contextmanager
    def striking(self) -> Iterator[None]:
        """Raise HeadLost in the block as soon as the head is taken for lost."""
        self._refuse()
        if threading.current_thread() is not self._main:
            yield
            return
        if not self._kept:
            self._kept.append(signal.signal(_SIGNAL, self._on_signal))
        self._inside = True
        try:
            self._refuse()  # it may have been lost in between
            yield
        finally:
            self._inside = False

    def close(self) -> None:
        """Ask no more, and give the signal back; safe to call twice, from the main thread."""
        with self._lock:
            self._ended.set()
        if self._kept and not self._lost:
            signal.signal(_SIGNAL, self._kept.pop())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._inside:
            self._inside = False  # once: what is torn down on the way out is left in peace
            self._refuse()

    def _refuse(self) -> None:
        if self._lost:
            raise HeadLost(
                f"the head of the Ray cluster at {self._address} has not answered for "
                f"{self._patience_s:.0f} s: what was finished is saved; on another cluster, or "
                "with --engine hf or vllm, the same command goes on from there"
            )

    def _watch(self) -> None:
        heard = time.monotonic()
        while not self._ended.wait(self._every_s):
            if head_answers(self._address):
                heard = time.monotonic()
            elif time.monotonic() - heard >= self._patience_s:
                self._strike()
                return

    def _strike(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._lost = True
            if self._inside and self._main.ident is not None:
                signal.pthread_kill(self._main.ident, _SIGNAL)


def head_answers(address: str) -> bool:
    """Whether something that speaks as a Ray head answers; faults of this process do not count."""
    try:
        return first_frame(address) is not None
    except OSError as error:
        return error.errno in _OWN_FAULTS


__all__ = ["PATIENCE_S", "HeadLost", "HeadWatch", "head_answers", "let_us_speak_first"]
