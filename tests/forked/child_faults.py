"""Faults that a child of the zygote is put under before its command begins."""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import itertools
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

AT_THE_END: list[Callable[[], object]] = []
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


def kill_at_change(*, under: str, number: int) -> None:
    """SIGKILL right before the n-th change of a file below a folder (1 is the first one)."""
    count = itertools.count(1)

    def kill_self() -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _on_changes(under, kill_self)


def stop_at_change(*, under: str, number: int) -> None:
    """SIGSTOP right before the n-th change: the process stands still until it is woken up."""
    count = itertools.count(1)

    def stop_self() -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    _on_changes(under, stop_self)


def count_changes(*, under: str, to: str) -> None:
    """Write into the file `to` how many changes there were."""
    count = itertools.count()
    _on_changes(under, lambda: next(count))
    AT_THE_END.append(lambda: Path(to).write_text(str(next(count))))


def _on_changes(under: str, act: Callable[[], object]) -> None:
    """Call before files below a folder are opened to be written, renamed, removed, cut, synced."""

    def hook(event: str, args: tuple) -> None:
        if event not in CHANGES or not isinstance(args[0], str | bytes | os.PathLike):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100 - links are not followed
        if path.startswith(under):
            act()

    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if _path_of(descriptor).startswith(under):
            act()
        sync(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def limit_file_size(*, number_of_bytes: int) -> None:
    """Let no file grow beyond a size: what a full disk is without a disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number_of_bytes, number_of_bytes))


def bound_by_modes() -> None:
    """Take from root the power to pass over file modes; others are bound by them as they are."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for number in range(6):
        if number < 3:
            sets[number] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


def jumping_clock(*, seed: int) -> None:
    """A wall clock that goes back and forth by years at every look at it."""
    randomness = random.Random(seed)
    real = {name: getattr(time, name) for name in ("time", "gmtime", "localtime")}

    def now() -> float:
        return real["time"]() + randomness.uniform(-20, 60) * 365 * 86400

    time.time = now
    time.time_ns = lambda: int(now() * 1e9)
    time.gmtime = lambda seconds=None: real["gmtime"](now() if seconds is None else seconds)
    time.localtime = lambda seconds=None: real["localtime"](now() if seconds is None else seconds)


def failing_call(*, name: str, ending: str, number: int, code: str = "EIO") -> None:
    """Let the n-th call of `os.<name>` or `open` on a file fail as a broken disk or NFS does.

    `ending` is how the file's path ends; calls from the n-th on all fail.
    """
    count = itertools.count(1)

    def check(path: object) -> None:
        if str(path).endswith(ending) and next(count) >= number:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), str(path))

    if name == "open":
        opened = io.open

        def checked_open(file: object, *args: object, **options: object) -> object:
            if not isinstance(file, int):
                check(file)
            return opened(file, *args, **options)

        io.open = builtins.open = checked_open
        return
    real = getattr(os, name)

    def checked(target: object, *args: object, **options: object) -> object:
        check(_path_of(target) if isinstance(target, int) else target)
        return real(target, *args, **options)

    setattr(os, name, checked)


def failing_read(*, ending: str, after: int) -> None:
    """Let reading a file fail after so many reads, as on a disk with a bad block."""
    opened = io.open

    class Broken:
        def __init__(self, inner: object) -> None:
            self.inner, self.left = inner, after

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.inner.close()

        def _step(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        def read(self, *args: object) -> object:
            self._step()
            return self.inner.read(*args)

        def readline(self, *args: object) -> object:
            self._step()
            return self.inner.readline(*args)

        def __iter__(self) -> Broken:
            return self

        def __next__(self) -> object:
            self._step()
            return next(self.inner)

    def open_broken(file: object, *args: object, **options: object) -> object:
        inner = opened(file, *args, **options)
        return Broken(inner) if str(file).endswith(ending) else inner

    io.open = builtins.open = open_broken


def no_working_folder() -> None:
    """Remove the folder that the command runs in."""
    Path.cwd().rmdir()


def failing_lock(*, code: str) -> None:
    """A mount on which files cannot be locked."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    fcntl.flock = refuse
