"""What every metric key means: the one place that docs, compare, check and report read."""

from __future__ import annotations

import re
from functools import lru_cache

from coordeval.metrics.catalogue_entries import CATALOGUE
from coordeval.metrics.catalogue_info import Better, MetricInfo
from coordeval.parsers.reasons import ALL_ISSUES, DROP_REASONS

_PLACEHOLDERS = {
    "<iou>": r"(?:0\.\d\d|1\.00|mean)",
    "<reason>": r"[a-z_]+",
    "<issue>": r"[a-z_]+",
    "<detail>": r"[^/]+",
}


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], MetricInfo], ...]:
    out = []
    for info in CATALOGUE:
        pattern = re.escape(info.key)
        for name, expression in _PLACEHOLDERS.items():
            pattern = pattern.replace(re.escape(name), expression)
        out.append((re.compile(pattern), info))
    return tuple(out)


def describe(key: str) -> MetricInfo | None:
    """What a metric key means, with the family's placeholders filled in; None where unknown."""
    for pattern, info in _patterns():
        if pattern.fullmatch(key):
            return _filled(key, info)
    return None


def _filled(key: str, info: MetricInfo) -> MetricInfo:
    if info.key == key:
        return info
    leaf = key.rsplit("/", 1)[-1]
    meaning = info.meaning.replace("{}", DROP_REASONS.get(leaf) or ALL_ISSUES.get(leaf) or leaf)
    aliases = info.aliases
    better = info.better
    if "<iou>" in info.key:
        threshold = key.split("/")[1]
        meaning = meaning.replace(" (`mean`: over .50:.95)", "")
        at = "mean over IoU .50:.95" if threshold == "mean" else f"at IoU {threshold}"
        meaning = meaning.replace("at IoU <iou>", at)
        aliases = tuple(alias.replace("<iou>", threshold) for alias in aliases)
    if leaf in ("nonstandard_spacing", "coord_token_in_desc") and "<issue>" in info.key:
        better = "none"
    return MetricInfo(
        key=key,
        meaning=meaning,
        unit=info.unit,
        better=better,
        low=info.low,
        high=info.high,
        aliases=aliases,
    )


def catalogue_markdown() -> str:
    """The table of all metrics for the docs page."""
    lines = ["| key | meaning | unit | better | range | aliases |", "|---|---|---|---|---|---|"]
    for info in CATALOGUE:
        meaning = info.meaning.replace(": {}", "").replace("|", "\\|")
        aliases = ", ".join(f"`{alias}`" for alias in info.aliases) or "-"
        lines.append(
            f"| `{info.key}` | {meaning} | {info.unit} | {info.better} | {_range(info)} "
            f"| {aliases} |"
        )
    return "\n".join(lines) + "\n"


def _range(info: MetricInfo) -> str:
    low = "any" if info.low is None else f"{info.low:g}"
    return f"{low} .." if info.high is None else f"{low} .. {info.high:g}"


__all__ = ["CATALOGUE", "Better", "MetricInfo", "catalogue_markdown", "describe"]
