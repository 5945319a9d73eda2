"""The lock that keeps a second writer out of a folder; a process that is dead holds nothing."""

from __future__ import annotations

import errno
import os
import warnings
from typing import TYPE_CHECKING

from filelock import FileLock, SoftFileLock

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

LOCK_NAME = ".lock"


def lock_folder(folder: Path) -> BaseFileLock:
    """Take a folder's lock, to be released by the caller; `filelock.Timeout` where it is held.

    Raises OSError where the mount has no locks. A file that merely exists is taken for none: on
    another machine nobody could tell whether its process lives.
    """
    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            lock.acquire()
    except NotImplementedError:  # older versions of filelock
        raise _no_locks() from None
    if _is_soft(lock):
        lock.release()
        raise _no_locks()
    return lock


def _is_soft(lock: BaseFileLock) -> bool:
    """Whether the library changed a lock's class, as it does where the mount has no locks."""
    return isinstance(lock, SoftFileLock)


def _no_locks() -> OSError:
    return OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


__all__ = ["LOCK_NAME", "lock_folder"]
