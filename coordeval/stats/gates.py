"""Gates: what a metric must be, or by how much it may change against a baseline.

Grammar (docs/ci.md):

    KEY OP NUMBER[%|pt]          OP is >= <= > < ==          coco/AP>=40pt
    KEY:TOLERANCE[,TOLERANCE]    at most this much worse     coco/AP:-0.5pt
    TOLERANCE is [+|-|+-]NUMBER[pt|%]

`pt` are points (0.01 of a ratio), `%` is relative to the baseline, a bare number is in the metric's
own unit. `-` bounds a fall, `+` a rise, `+-` both; without a sign it is the bad direction. Of two
tolerances the wider one holds. KEY may hold `*`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from coordeval.errors import ConfigError
from coordeval.metrics.catalogue import describe

Direction = Literal["fall", "rise", "both"]
Operator = Literal[">=", "<=", ">", "<", "=="]
SLACK = 1e-9
"""Differences up to this are float noise, not change."""

MAX_LENGTH = 300
_NUMBER = r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
_UNIT = r"\s*(?P<unit>%|pts?|points?)?"
_LIMIT = re.compile(r"(?P<key>.+?)\s*(?P<op>>=|<=|==|>|<)\s*(?P<minus>-?)" + _NUMBER + _UNIT)
_TOLERANCE = re.compile(r"(?P<sign>\+-|-\+|±|[+\-−])?\s*" + _NUMBER + _UNIT)
_SIGNS: dict[str, Direction] = {"-": "fall", "−": "fall", "+": "rise"}
_HOW = "write KEY>=0.8, KEY:-0.5pt, KEY:+10% or KEY:+10%,+0.2pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The value itself is bounded."""

    operator: Operator
    value: float

    def holds(self, value: float) -> bool:
        """True where the value is within the bound; float noise is forgiven."""
        return {
            ">=": value >= self.value - SLACK,
            "<=": value <= self.value + SLACK,
            ">": value > self.value + SLACK,
            "<": value < self.value - SLACK,
            "==": abs(value - self.value) <= SLACK,
        }[self.operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The difference to the baseline is bounded, by the wider of the tolerances given.

    `absolute` is in the metric's own unit, `relative` a share of the baseline. `direction` None
    means the bad one of the metric.
    """

    direction: Direction | None
    absolute: float | None
    relative: float | None

    def allowed(self, baseline: float) -> float:
        """How far the value may go; ConfigError for a purely relative gate from 0."""
        parts = [] if self.absolute is None else [self.absolute]
        if self.relative is not None:
            if baseline == 0 and self.absolute is None:
                raise ConfigError(
                    "a relative gate cannot be judged from a baseline of 0: add an absolute "
                    "tolerance beside it, e.g. :+10%,+0.1pt"
                )
            parts.append(self.relative * abs(baseline))
        return max(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition on a metric key (or on all that match a pattern); `text` as it was written."""

    key: str
    text: str
    condition: Limit | Change

    @property
    def needs_baseline(self) -> bool:
        """True where it bounds a change."""
        return isinstance(self.condition, Change)


def parse_gate(text: str) -> Gate:
    """Read one gate; ConfigError quotes it and says how gates are written."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"gate {text[:60]!r}... is longer than {MAX_LENGTH} characters: {_HOW}")
    key, colon, rest = text.rpartition(":")
    if colon and key:
        change = _parse_change(rest)
        if change is not None:
            return Gate(key=key.strip(), text=text, condition=change)
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ConfigError(f"gate {text!r} cannot be read: {_HOW}")
    value = float(match["minus"] + match["number"]) / _parts(match["unit"])
    return Gate(
        key=match["key"].rstrip(": "),
        text=text,
        condition=Limit(operator=match["op"], value=value),  # type: ignore[arg-type]
    )


def gate_of(key: str, condition: str | float) -> Gate:
    """A gate from a table row: `"-0.5pt"`, `">=0.8"`, or a bare number, which is a tolerance."""
    text = condition.strip() if isinstance(condition, str) else repr(condition)
    joint = "" if text[:1] in "<>=" else ":"
    return parse_gate(f"{key}{joint}{text}")


def _parts(unit: str | None) -> float:
    return 100.0 if unit else 1.0


def _parse_change(text: str) -> Change | None:
    directions: set[Direction | None] = set()
    absolute = relative = None
    for part in re.split(r"[,|;]", text):
        match = _TOLERANCE.fullmatch(part.strip())
        if match is None:
            return None
        sign = match["sign"]
        directions.add(_SIGNS.get(sign, "both") if sign else None)
        size = float(match["number"]) / _parts(match["unit"])
        if match["unit"] == "%":
            relative = max(size, relative or 0.0)
        else:
            absolute = max(size, absolute or 0.0)
    signed = directions - {None}
    if len(signed) > 1:
        raise ConfigError(f"tolerance {text!r}: its parts bound different directions: {_HOW}")
    return Change(direction=signed.pop() if signed else None, absolute=absolute, relative=relative)


def bad_direction(key: str, change: Change, text: str) -> Direction:
    """The direction in which a change on `key` is bounded.

    Without a sign it is the one that the catalogue calls worse (both, where it knows none).
    ConfigError where the sign would forbid the metric to get better, or where points are asked of
    a metric that is no ratio.
    """
    info = describe(key)
    better = info.better if info is not None else "none"
    worse: Direction = {"higher": "fall", "lower": "rise"}.get(better, "both")  # type: ignore[assignment]
    if info is not None and info.unit != "ratio" and re.search(r"\d\s*p", text.rpartition(":")[2]):
        raise ConfigError(f"gate {text!r}: {key} counts {info.unit}; points are for ratios only")
    if change.direction is None:
        return worse
    if worse != "both" and change.direction not in (worse, "both"):
        sign = "-" if worse == "fall" else "+"
        raise ConfigError(
            f"gate {text!r}: {key} is better {better}, so this would only forbid improvement; "
            f"write {sign} for how much worse it may get, or +- for both directions"
        )
    return change.direction


__all__ = [
    "SLACK",
    "Change",
    "Direction",
    "Gate",
    "Limit",
    "bad_direction",
    "gate_of",
    "parse_gate",
]
