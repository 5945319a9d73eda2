"""What stands out in a run, in sentences a stranger understands; the costliest first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode

from coordeval.counted import counted
from coordeval.parsers.reasons import DROP_REASONS
from coordeval.reports.charts.drops import dropped
from coordeval.reports.formats import number, percent
from coordeval.reports.html.summary import HEADLINE
from coordeval.reports.html.values import shown_change
from coordeval.reports.printable import printable
from coordeval.stats.headline import HEADLINE as HEADLINE_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from coordeval.reports.charts.shown import ShownRun
    from coordeval.stats.changes import Change

Tone = Literal["good", "bad", "note"]
SHOWN = 6
VERDICT_TONES: dict[str, Tone] = {"worse": "bad", "better": "good"}
VERDICTS_NAMED = 4
NAMES = {key: name for rows in HEADLINE.values() for key, name in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence; `link` is the fragment of the page that shows the images behind it.

    `weight` orders findings: the share of objects or images concerned, 0 to 1.
    """

    text: str
    tone: Tone
    weight: float
    link: str = ""


def findings(
    shown: ShownRun, *, against: str = "", changes: Mapping[str, Change] | None = None
) -> list[Finding]:
    """The run's findings, heaviest first, at most `SHOWN`; a run without samples has one.

    `changes` are those against the run labelled `against`; their verdicts come before all else.
    """
    metrics = shown.result.metrics
    if not metrics["samples/total"]:
        return [Finding(text="The run holds no sample.", tone="note", weight=1.0)]
    found = [*_faults(shown), *_quality(shown)]
    found.sort(key=lambda finding: -finding.weight)
    return [*_verdicts(shown, against, changes or {}), *found[:SHOWN]]


def _verdicts(shown: ShownRun, against: str, changes: Mapping[str, Change]) -> Iterator[Finding]:
    """One sentence on what got worse and one on what got better, with the largest changes."""
    headline = [changes[key] for key in HEADLINE_KEYS if key in changes and changes[key].headline]
    for verdict, tone in VERDICT_TONES.items():
        keys = [change for change in headline if change.verdict == verdict]
        if keys:
            parts = ", ".join(
                f"{NAMES.get(change.key, change.key)} {shown_change(change.key, change.delta)}"
                for change in keys[:VERDICTS_NAMED]
            )
            rest = len(keys) - VERDICTS_NAMED
            yield Finding(
                text=f"{verdict.capitalize()} than {against} in {len(keys)} of {len(headline)} "
                f"headline metrics: {parts}" + (f" and {rest} more." if rest > 0 else "."),
                tone=tone,
                weight=2.0,
                link=_link(shown, versus=f"{verdict}:{against}"),
            )
    if headline and not any(change.verdict in ("worse", "better") for change in headline):
        yield Finding(
            text=f"Cannot be told apart from {against} in any of {len(headline)} headline metrics.",
            tone="note",
            weight=2.0,
        )


def _link(shown: ShownRun, **filters: str) -> str:
    return "#" + urlencode({"run": shown.label, **filters}, quote_via=quote)


def _faults(shown: ShownRun) -> Iterator[Finding]:
    metrics = shown.result.metrics
    images = metrics["samples/total"] or 1
    errors = metrics["samples/errors"] or 0
    if errors:
        yield Finding(
            text=f"{number(errors)} of {counted(images, 'image')} ended in an engine error; all "
            "their objects count as missed.",
            tone="bad",
            weight=errors / images,
            link=_link(shown, state="error"),
        )
    yield from _drop_findings(shown)
    looped = metrics["dup/loop_samples"] or 0
    if looped:
        wasted = metrics["dup/wasted_tokens"]
        cost = "" if wasted is None else f", which wastes {counted(wasted, 'token')}"
        yield Finding(
            text=f"{number(looped)} of {counted(images, 'image')} run into a loop: a block "
            f"repeated four times or more{cost}.",
            tone="bad",
            weight=looped / images,
            link=_link(shown, state="loop"),
        )
    truncated = metrics["samples/truncated_rate"]
    if truncated:
        yield Finding(
            text=f"{percent(truncated)} of the texts were cut before their end.",
            tone="bad",
            weight=truncated,
            link=_link(shown, issue="truncated"),
        )
    exact = metrics["dup/exact_rate"]
    if exact:
        yield Finding(
            text=f"{percent(exact)} of the readable records repeat an earlier one exactly "
            f"({counted(metrics['dup/exact_objects'] or 0, 'record')}).",
            tone="bad",
            weight=exact,
            link=_link(shown, state="copies"),
        )


def _drop_findings(shown: ShownRun) -> Iterator[Finding]:
    metrics = shown.result.metrics
    rate, total = metrics["parse/drop_rate"], metrics["parse/dropped_invalid"] or 0
    if not rate:
        if metrics["parse/objects_found"]:
            yield Finding(
                text=f"{counted(metrics['parse/objects_found'], 'record')} found, all usable.",
                tone="good",
                weight=0.0,
            )
        return
    (reason, detail), count = Counter(dropped(shown)).most_common(1)[0]
    name = f"{reason} ({printable(detail, limit=24)})" if detail else reason
    share = metrics["outliers/drops/worst_5pct"]
    crowd = ""
    if share is not None and share >= 0.3 and (metrics["samples/total"] or 0) >= 20:
        crowd = f" The worst 5 % of images hold {percent(share)} of them."
    yield Finding(
        text=f"{percent(rate)} of the records were dropped ({number(total)} of "
        f"{number(metrics['parse/objects_found'])}); most often {name}, {counted(count, 'time')}: "
        f"{DROP_REASONS[reason]}{_example(shown, reason, detail)}.{crowd}",
        tone="bad",
        weight=rate,
        link=_link(shown, reason=reason),
    )


def _example(shown: ShownRun, reason: str, detail: str) -> str:
    records = shown.result.columns.records
    evidence = Counter(
        text
        for text, why, more in zip(records.evidence, records.reason, records.detail, strict=True)
        if why == reason and (more or "") == detail and text
    )
    if not evidence:
        return ""
    (text, count), *_ = evidence.most_common(1)
    return f", for example “{printable(text, limit=24)}” ({counted(count, 'time')})"


def _quality(shown: ShownRun) -> Iterator[Finding]:
    metrics = shown.result.metrics
    unknown, predicted = metrics["count/unknown_class"] or 0, metrics["count/pred"] or 0
    if unknown and predicted:
        yield Finding(
            text=f"{counted(unknown, 'prediction')} with a name outside the class list.",
            tone="bad",
            weight=unknown / predicted,
            link=_link(shown, **{"class": "(unknown)"}),
        )
    tied = metrics["score/tied_frac"]
    low, high = metrics["coco/AP_tie_min"], metrics["coco/AP_tie_max"]
    if tied and low is not None and high is not None and high - low >= 0.005:
        yield Finding(
            text=f"{percent(tied)} of the scores are tied: AP lies anywhere from {100 * low:.1f} "
            f"to {100 * high:.1f} by the order of ties.",
            tone="note",
            weight=high - low,
        )
    yield from _recall(shown)


def _recall(shown: ShownRun) -> Iterator[Finding]:
    metrics = shown.result.metrics
    aware, anyhow = metrics.get("f1/0.50/f1"), metrics.get("f1_loc/0.50/f1")
    missed, truth = metrics.get("f1/0.50/fn"), metrics["count/gt"] or 0
    if missed and truth:
        yield Finding(
            text=f"{number(missed)} of {number(truth)} true objects were missed at IoU .50 "
            f"({percent(missed / truth)}).",
            tone="bad",
            weight=0.5 * missed / truth,
            link=_link(shown, state="missed"),
        )
    if aware is not None and anyhow is not None and anyhow - aware >= 0.02:
        yield Finding(
            text=f"Names cost {number(anyhow - aware)} F1: boxes alone would score "
            f"{number(anyhow)}, with names it is {number(aware)}.",
            tone="bad",
            weight=anyhow - aware,
        )


__all__ = ["Finding", "findings"]
