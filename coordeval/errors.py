"""The exception tree, and the exit code that each branch ends the command with.

CoordevalError            2   anything a user can mend; printed as one line, without traceback
|-- ConfigError           2   coordeval.toml, a prompt file, an option or a combination of options
|-- MissingExtraError     2   a command needs packages of an extra that is not installed
|-- DataError             2   a dataset or run file that cannot be read; says file and line
|-- CheckpointError       2   a checkpoint that cannot be loaded or lacks coordinate tokens
|-- RunMismatchError      2   a run directory that belongs to another checkpoint or other settings
|-- RunLockedError        2   a run directory that another process writes at this moment
|-- RunIncomplete         3   ids without a line, too many errors, or nothing to evaluate
|   |-- RunNotWritten     3   a run directory that can be written no more (a full disk, say)
|   |   |-- CheckpointNotSaved  3   a training checkpoint (training.loop.checkpoints)
|   |   `-- LogNotWritten       3   a training log line (training.loop.train_log)
|   |-- HeadLost          3   the head of a Ray cluster that went away (engines.ray_head)
|   |-- TrainingDiverged  3   a loss or gradient that is no number (training.loop.nonfinite)
|   `-- LoaderWorkerLost  3   a data loader that was killed (training.loop.lost_worker)
`-- NotComparable         4   other ground truth, other protocol, no common ids
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_PROBLEMS = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3
EXIT_NOT_COMPARABLE = 4
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


_LONGEST = 1500
"""Characters of a message. What is quoted of a foreign text is cut where it is quoted; this is the
fence behind that."""
_HEAD = 1000


class CoordevalError(Exception):
    """A fault that the user can mend; its text says what, where and how.

    A longer text than `_LONGEST` loses its middle: where the fault is stands first, how to mend it
    last.
    """

    exit_code = EXIT_USAGE

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) <= _LONGEST:
            return text
        return f"{text[:_HEAD]} ... {text[_HEAD - _LONGEST + 5 :]}"


class ConfigError(CoordevalError):
    """An option, a configuration file or a combination of settings is wrong."""


class MissingExtraError(CoordevalError):
    """A command needs packages that only an extra installs."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'coordeval[{extra}]'")
        self.extra = extra


class DataError(CoordevalError):
    """A dataset, image or run file cannot be read; the text names file and line."""


class CheckpointError(CoordevalError):
    """A checkpoint cannot be loaded, or its tokenizer lacks the coordinate tokens."""


class RunMismatchError(CoordevalError):
    """A run directory was written with another checkpoint or other settings."""


class RunLockedError(CoordevalError):
    """Another process is writing this run directory."""


class RunIncomplete(CoordevalError):  # noqa: N818 - an outcome, not a fault
    """A run misses ids, holds too many errors, or there is nothing to evaluate."""

    exit_code = EXIT_INCOMPLETE


class RunNotWritten(RunIncomplete):
    """A run directory cannot be written any more; what was finished stands in it."""


class NotComparable(CoordevalError):  # noqa: N818 - an outcome, not a fault
    """Runs differ in what makes their numbers comparable."""

    exit_code = EXIT_NOT_COMPARABLE


__all__ = [
    "EXIT_INCOMPLETE",
    "EXIT_INTERNAL",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_COMPARABLE",
    "EXIT_OK",
    "EXIT_PROBLEMS",
    "EXIT_TERMINATED",
    "EXIT_USAGE",
    "CheckpointError",
    "ConfigError",
    "CoordevalError",
    "DataError",
    "MissingExtraError",
    "NotComparable",
    "RunIncomplete",
    "RunLockedError",
    "RunMismatchError",
    "RunNotWritten",
]
