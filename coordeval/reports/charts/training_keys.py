"""Which curves of training logs are drawn, and what the trainings are called in figures."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from coordeval.dynamics.keys import key_info, read_key, report_order
from coordeval.errors import ConfigError
from coordeval.reports.charts.shown import LABEL_LIMIT
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.dynamics.analysis import Dynamics

MAX_CURVES = 8
_WEIGHT = {"turns": 0, "worsens": 1}


def training_labels(names: Sequence[str]) -> dict[str, str]:
    """Printable labels of trainings, different from each other; long names keep their end."""
    labels = [_label(name) for name in names]
    if len(set(labels)) < len(labels):
        labels = [f"{number}: {label}" for number, label in enumerate(labels, start=1)]
    return dict(zip(names, labels, strict=True))


def _label(name: str) -> str:
    # The end of a path tells more than its start.
    shown = printable(name)
    return shown if len(shown) <= LABEL_LIMIT else "…" + shown[1 - LABEL_LIMIT :]


def drawable_keys(dynamics: Dynamics) -> list[str]:
    """Keys of which some training has two points or more, in the order of reports."""
    keys = {
        key
        for log in dynamics.logs
        for key in log.keys
        if (series := log.best_split(key)) is not None and len(series.steps) > 1
    }
    return sorted(keys, key=report_order)


def selected_keys(dynamics: Dynamics, wanted: Sequence[str] = ()) -> list[str]:
    """The keys to draw: those `wanted`, under any name that logs give them, else the telling ones.

    Telling are known keys that move; those that turn or worsen come first, at most `MAX_CURVES`.
    ConfigError, with the nearest name, for a wanted key that has no curve.
    """
    keys = drawable_keys(dynamics)
    if wanted:
        return list(dict.fromkeys(_wanted(name, keys) for name in wanted))
    telling = [key for key in keys if _tells(dynamics, key)]
    return sorted(telling, key=lambda key: _weight(dynamics, key))[:MAX_CURVES]


def _wanted(name: str, keys: Sequence[str]) -> str:
    for key in (name, read_key(name).key):
        if key in keys:
            return key
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "no key of these logs has two points"
    raise ConfigError(f"--curve {name!r}: no training has such a curve; {hint}")


def _tells(dynamics: Dynamics, key: str) -> bool:
    moves = any(trend.key == key and trend.verdict != "flat" for trend in dynamics.trends)
    return moves and read_key(key).known and key_info(key).better != "none"


def _weight(dynamics: Dynamics, key: str) -> tuple[int, tuple[int, int, str]]:
    verdicts = [trend.verdict for trend in dynamics.trends if trend.key == key]
    return min(_WEIGHT.get(verdict, 2) for verdict in verdicts), report_order(key)


__all__ = ["MAX_CURVES", "drawable_keys", "selected_keys", "training_labels"]
