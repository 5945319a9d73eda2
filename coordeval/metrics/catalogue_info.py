"""What one entry of the metric catalogue is, and how ratios and counts are entered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """One metric, or one family of metrics.

    `unit` is ratio, objects, samples, images, tokens, classes, records, slots or nats; `better` the
    direction in which it improves; `low` and `high` the range (None: unbounded).
    """

    key: str
    meaning: str
    unit: str
    better: Better
    low: float | None = 0.0
    high: float | None = None
    aliases: tuple[str, ...] = ()


def rate_entry(key: str, meaning: str, better: Better, *aliases: str) -> MetricInfo:
    """A share between 0 and 1."""
    return MetricInfo(
        key=key, meaning=meaning, unit="ratio", better=better, high=1.0, aliases=aliases
    )


def count_entry(key: str, meaning: str, unit: str, better: Better, *aliases: str) -> MetricInfo:
    """A quantity of 0 or more, in its unit."""
    return MetricInfo(key=key, meaning=meaning, unit=unit, better=better, aliases=aliases)


__all__ = ["Better", "MetricInfo", "count_entry", "rate_entry"]
