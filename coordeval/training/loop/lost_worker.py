"""A data-loading process that was killed ends the training in one line, not as an internal fault.

What the system kills (for memory, mostly) raises a RuntimeError of the loader's in the main
process, or breaks the pipe that a batch came through. Nothing was wrong with how the command was
called (2), and it is no fault inside the program (70): the run is incomplete (3), and goes on from
its last checkpoint.
"""

from __future__ import annotations

import gc
import re
import signal
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from coordeval.errors import RunIncomplete

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = re.compile(r"DataLoader worker .*?(exited unexpectedly|is killed by signal: ?[^.]*)")
_IN_THREAD = re.compile(r"^Caught \w+ in pin memory thread")


class LoaderWorkerLost(RunIncomplete):
    """A data-loading process was killed or died; says what it was and how to go on."""


def lost_worker(error: BaseException) -> LoaderWorkerLost | None:
    """The one line for what a loader reports of a lost process; None for any other error."""
    what = _reported(error)
    if what is None:
        return None
    return LoaderWorkerLost(
        f"a data-loading process was lost ({what}), mostly for want of memory; the last checkpoint "
        "is as it was: go on with --resume auto, with fewer trainer.dataloader_num_workers if it "
        "happens again (their number changes no step)"
    )


def _reported(error: BaseException) -> str | None:
    """What happened to the process, as far as the error says; None where it is no such error.

    The loader either notices that a process is gone, or fails to take over what it had sent.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and (found := _GONE.search(text)) is not None:
        return found.group(1).strip()
    broken = isinstance(error, OSError | EOFError)
    if broken and (_IN_THREAD.search(text) or _raised_in(error, "_try_get_data")):
        return f"{type(error).__name__}: {text[:80]}".rstrip(": ")
    return None


def _raised_in(error: BaseException, function: str) -> bool:
    """Whether an error went through a function of torch's loader."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(
        frame.f_code.co_name == function and frame.f_code.co_filename.endswith("dataloader.py")
        for frame, _ in frames
    )


@contextmanager
def named_as_such() -> Iterator[None]:
    """Raise LoaderWorkerLost for a lost data-loading process in the block, its loader let go."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, LoaderWorkerLost) as error:
        lost = error if isinstance(error, LoaderWorkerLost) else lost_worker(error)
        if lost is None:
            raise
        _let_go(error)
        raise lost from None


def _let_go(error: BaseException) -> None:
    """Free the loader, which the error's frames hold, and with it its other processes.

    As long as it lives, torch's handler raises the same error again, anywhere in the main thread,
    whenever any child process ends.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if main else None
    try:
        link: BaseException | None = error
        while link is not None:
            traceback.clear_frames(link.__traceback__)
            link = link.__cause__ or link.__context__
        gc.collect()
    finally:
        if main:
            signal.signal(signal.SIGCHLD, handler)


__all__ = ["LoaderWorkerLost", "lost_worker", "named_as_such"]
