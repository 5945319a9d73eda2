"""The section on training logs: warnings, what stands out, curves, tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.reports.charts import dynamics as chart
from coordeval.reports.charts.training_keys import drawable_keys, training_labels
from coordeval.reports.dynamics import dynamics_sections, ratio_text, trend_text
from coordeval.reports.formats import number
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coordeval.dynamics.analysis import Dynamics
    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.dynamics import Section

FINDINGS = 8
KEY_LIMIT = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFinding:
    """One thing that somebody should look at: where it is, and what."""

    where: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """The cells of one row; `marked` rows need attention."""

    cells: tuple[str, ...]
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table, or `lines` of text; `kind` names its CSS class, `is_left` its text columns."""

    kind: str
    title: str
    headers: tuple[str, ...]
    is_left: tuple[bool, ...]
    rows: tuple[TableRow, ...]
    lines: tuple[str, ...]
    folded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPart:
    """What the page says of training logs; every text is printable, none is markup."""

    names: tuple[str, ...]
    cautions: tuple[str, ...]
    findings: tuple[TrainingFinding, ...]
    more: str
    curves: tuple[Figure, ...]
    num_drawable: str
    chosen: bool
    missing: str
    tables: tuple[Table, ...]


def training_part(dynamics: Dynamics, wanted: Sequence[str] = ()) -> TrainingPart:
    """Everything for the section; `wanted` are the keys to draw instead of the telling ones.

    ConfigError for a wanted key without a curve.
    """
    labels = training_labels(dynamics.names)
    found = [*_ratio_findings(dynamics, labels), *_trend_findings(dynamics, labels)]
    rest = len(found) - FINDINGS
    sections = dynamics_sections(dynamics, show_all=True, name=labels.__getitem__)
    return TrainingPart(
        names=tuple(labels.values()),
        cautions=tuple(printable(warning.text) for warning in dynamics.warnings),
        findings=tuple(found[:FINDINGS]),
        more=number(rest) if rest > 0 else "",
        curves=tuple(chart.curves(dynamics, wanted)),
        num_drawable=number(len(drawable_keys(dynamics))),
        chosen=bool(wanted),
        missing=chart.MISSING,
        tables=tuple(_table(section) for section in sections if section.kind != "caution"),
    )


def _ratio_findings(dynamics: Dynamics, labels: Mapping[str, str]) -> Iterator[TrainingFinding]:
    for audit in dynamics.ratios:
        if audit.flagged:
            key = printable(audit.key, limit=KEY_LIMIT)
            ratio = number(audit.median)
            text = f"training / evaluation is {ratio} (median): {ratio_text(audit)}"
            yield TrainingFinding(where=f"{labels[audit.log]}, {key}", text=text)


def _trend_findings(dynamics: Dynamics, labels: Mapping[str, str]) -> Iterator[TrainingFinding]:
    """Turning points first, then curves that only worsen."""
    for verdict in ("turns", "worsens"):
        for trend in dynamics.trends:
            if trend.verdict == verdict:
                key = printable(trend.key, limit=KEY_LIMIT)
                yield TrainingFinding(where=f"{labels[trend.log]}, {key}", text=trend_text(trend))


def _table(section: Section) -> Table:
    return Table(
        kind=section.kind,
        title=f"{section.title[:1].upper()}{section.title[1:]}",
        headers=section.headers,
        is_left=tuple(place in section.left for place in range(len(section.headers))),
        rows=tuple(
            TableRow(cells=row, marked=place in section.marked)
            for place, row in enumerate(section.rows)
        ),
        lines=section.lines,
        folded=section.kind in ("snapshot", "common"),
    )


__all__ = ["Table", "TableRow", "TrainingFinding", "TrainingPart", "training_part"]
