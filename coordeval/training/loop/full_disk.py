"""A disk that fills up while training, wherever it is noticed first."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from coordeval.training.loop.train_log import LogNotWritten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def told_of_a_full_disk(folder: Path) -> Iterator[None]:
    """Turn errors for lack of room (in TensorBoard's files, say) into LogNotWritten."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise LogNotWritten(
            f"{folder}: cannot be written ({error.strerror}); the last checkpoint is as it was: "
            "make room and go on with --resume auto"
        ) from None


__all__ = ["NO_ROOM", "told_of_a_full_disk"]
