"""Which metric keys gates may name: those of the catalogue, with a hint for the others."""

from __future__ import annotations

import difflib
import fnmatch
import re
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError
from coordeval.metrics.catalogue import CATALOGUE, describe
from coordeval.parsers.reasons import ALL_ISSUES, DROP_REASONS, FOREIGN_ISSUES

if TYPE_CHECKING:
    from collections.abc import Collection

_LISTED = (
    (re.compile(r"parse/dropped/([^/]+)"), DROP_REASONS),
    (re.compile(r"parse/detail/([^/]+)/.+"), DROP_REASONS),
    (re.compile(r"parse/issue/([^/]+)"), ALL_ISSUES),
)
_WHERE_THEY_OCCUR = re.compile(
    r"parse/detail/[^/]+/.+|parse/issue/(?:" + "|".join(map(re.escape, FOREIGN_ISSUES)) + ")",
    re.DOTALL,
)
_THRESHOLD = re.compile(r"f1(?:_loc|_dedup)?/")


def expand(key: str, present: Collection[str]) -> list[str]:
    """The metric keys that a gate's key stands for, sorted where it is a pattern.

    `present` are the keys of the run and the baseline. ConfigError for a key that the catalogue
    lacks, or a pattern that matches nothing, with the nearest known keys.
    """
    if "*" in key:
        matching = sorted(fnmatch.filter(present, key.replace("[", "[[]")))
        if not matching:
            raise ConfigError(f"no metric matches {key!r}; {_hint(key.replace('*', ''), present)}")
        return matching
    if key in present or is_known(key):
        return [key]
    raise ConfigError(f"unknown metric {key!r}; {_hint(key, present)}")


def is_known(key: str) -> bool:
    """True for keys that scoring may emit. Thresholds count only where a run has them."""
    if describe(key) is None or _THRESHOLD.match(key):
        return False
    for pattern, names in _LISTED:
        match = pattern.fullmatch(key)
        if match is not None and match[1] not in names:
            return False
    return True


def absent_value(key: str) -> float | None:
    """The value of a key that a run lacks: 0 for counts that only stand where they occur.

    These are details of drop reasons, and issues of other models' dialects.
    """
    return 0 if _WHERE_THEY_OCCUR.fullmatch(key) else None


def _hint(key: str, present: Collection[str]) -> str:
    for info in CATALOGUE:
        if key in info.aliases:
            return f"here it is called {info.key!r}"
    known = {info.key for info in CATALOGUE if "<" not in info.key}
    known |= {f"parse/dropped/{reason}" for reason in DROP_REASONS}
    known |= {f"parse/issue/{issue}" for issue in ALL_ISSUES}
    near = difflib.get_close_matches(key, sorted(known | set(present)), n=3, cutoff=0.5)
    if not near:
        leaf = key.rsplit("/", 1)[-1]
        near = [name for name in sorted(known) if name.endswith("/" + leaf)][:3]
    if not near:
        return "the keys are listed in docs/metrics.md"
    return "did you mean " + " or ".join(repr(name) for name in near) + "?"


__all__ = ["absent_value", "expand", "is_known"]
