"""One reader under attack: what it is fed, and what may come of that.

Faults of the input must come as `CoordevalError` (or as what the target names in `refuses`), in
one line of bounded length; everything else that is raised is a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval.errors import CoordevalError
from fuzzing.mutators import NASTY_BYTES, bend_bytes, bend_json

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Mutator = Callable[[bytes, random.Random], bytes]

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
MAX_MESSAGE = 2000
"""Characters of an error message, the folder's name included; a longer one repeats the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader. `weight` is its share of the time; `pumped` says that growth is looked at.

    `run` gets the input and an empty folder that is its own; `seeds` are inputs that it reads.
    """

    name: str
    run: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]
    mutators: tuple[Mutator, ...] = (bend_bytes, bend_json)
    refuses: Callable[[], tuple[type[Exception], ...]] = lambda: (CoordevalError,)
    weight: float = 1.0
    pumped: bool = True
    words: tuple[bytes, ...] = NASTY_BYTES


class BadRefusalError(AssertionError):
    """A fault was told, but not as one line of bounded length."""


def check_refusal(error: Exception) -> None:
    """Raise BadRefusalError where the text of a refusal is no clear line."""
    text = str(error)
    if not text.strip() or "\n" in text or len(text) > MAX_MESSAGE:
        raise BadRefusalError(f"{type(error).__name__}, {len(text)} characters: {text[:300]!r}")


def run_target(target: Target, data: bytes, folder: Path) -> bool:
    """Feed one input; True where it was read, False where it was refused properly."""
    try:
        target.run(data, folder)
    except target.refuses() as error:
        check_refusal(error)
        return False
    return True


def try_each(*reads: Callable[[], object]) -> None:
    """Call several readers of one input; the last refusal is raised where all of them refuse."""
    refusal: CoordevalError | None = None
    refused = 0
    for read in reads:
        try:
            read()
        except CoordevalError as error:
            check_refusal(error)
            refusal, refused = error, refused + 1
    if refusal is not None and refused == len(reads):
        raise refusal


def written(data: bytes, folder: Path, name: str) -> Path:
    """A file of that name with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


__all__ = [
    "FIXTURES",
    "ROOT",
    "BadRefusalError",
    "Target",
    "check_refusal",
    "run_target",
    "try_each",
    "written",
]
