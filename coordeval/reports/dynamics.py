"""What training logs say, for people: the same sections in the terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from coordeval.reports.formats import number
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from coordeval.dynamics.analysis import Dynamics
    from coordeval.dynamics.ending import TableRow
    from coordeval.dynamics.log import TrainingLog
    from coordeval.dynamics.ratios import RatioAudit
    from coordeval.dynamics.trends import Trend

NAME_LIMIT = 24
MAX_COLUMNS = 4
"""Trainings side by side in a terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table with a title, or lines of text where `headers` is empty.

    The first column is left-aligned, the others right, but for those in `left`; rows whose number
    is in `marked` need attention. `kind` is a stable name of what the section is about.
    """

    kind: str
    title: str
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    left: frozenset[int] = frozenset({0})
    marked: frozenset[int] = field(default_factory=frozenset)


def dynamics_sections(
    dynamics: Dynamics, *, show_all: bool = False, name: Callable[[str], str] | None = None
) -> list[Section]:
    """All sections that have something to say; `show_all` also lists keys that no table knows.

    `name` makes the name of a training printable; by default it is cut to fit a terminal.
    """
    name = name or _name
    out = [_logs(dynamics, name), _end(dynamics, name, show_all=show_all)]
    out += [
        Section(
            kind="snapshot",
            title=f"at evaluation step {step}",
            headers=("key", *map(name, dynamics.names)),
            rows=_rows([row for row in rows if row.known or show_all], dynamics, step=step),
        )
        for step, rows in dynamics.snapshots.items()
    ]
    if len(dynamics.logs) > 1:
        out.append(
            Section(kind="common", title="common evaluation steps", lines=_common(dynamics, name))
        )
    if dynamics.ratios:
        out.append(_ratios(dynamics.ratios, name))
    trends = [trend for trend in dynamics.trends if trend.verdict != "too_few"]
    moving = [trend for trend in trends if show_all or trend.verdict != "flat"]
    if trends:
        out.append(_trends(moving, name, hidden=len(trends) - len(moving)))
    if dynamics.pixels and dynamics.scale is not None:
        out.append(_pixels(dynamics, name))
    if dynamics.warnings:
        out.append(
            Section(
                kind="caution",
                title="caution",
                lines=tuple(printable(w.text) for w in dynamics.warnings),
            )
        )
    return out


def render_terminal(sections: Sequence[Section]) -> Group:
    """The sections for a terminal."""
    parts: list[RenderableType] = []
    for section in _split_wide(sections):
        if section.lines:
            parts += [Text(section.title, style="bold"), *map(_bullet, section.lines), Text()]
            continue
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, title=section.title, title_justify="left"
        )
        table.title_style = "bold"
        for index, header in enumerate(section.headers):
            is_left = index in section.left
            last_text = is_left and index == len(section.headers) - 1 and index > 0
            table.add_column(
                header,
                justify="left" if is_left else "right",
                overflow="fold",
                no_wrap=not last_text and index > 0,
            )
        for index, row in enumerate(section.rows):
            table.add_row(*map(Text, row), style="yellow" if index in section.marked else None)
        parts.append(table)
    return Group(*parts)


def _split_wide(sections: Sequence[Section]) -> Iterator[Section]:
    """Tables with many trainings as several tables, so that no figure is cut off."""
    for section in sections:
        columns = range(1, len(section.headers))
        if section.left != {0} or len(columns) <= MAX_COLUMNS:
            yield section
            continue
        for start in range(1, len(section.headers), MAX_COLUMNS):
            places = (0, *columns[start - 1 : start - 1 + MAX_COLUMNS])
            yield Section(
                kind=section.kind,
                title=section.title if start == 1 else f"{section.title} (continued)",
                headers=tuple(section.headers[place] for place in places),
                rows=tuple(tuple(row[place] for place in places) for row in section.rows),
            )


def _bullet(line: str) -> Text:
    return Text(f"  - {line}")


def render_markdown(sections: Sequence[Section]) -> str:
    """The sections as Markdown; text from logs cannot break out of its cell."""
    out = []
    for section in sections:
        out.append(f"### {section.title}\n")
        if section.lines:
            out += [f"- {_escape(line)}" for line in section.lines] + [""]
            continue
        places = range(len(section.headers))
        out.append("| " + " | ".join(map(_escape, section.headers)) + " |")
        out.append("|" + "|".join("---" if i in section.left else "---:" for i in places) + "|")
        out += ["| " + " | ".join(map(_escape, row)) + " |" for row in section.rows]
        out.append("")
    return "\n".join(out)


def _escape(text: str) -> str:
    for sign in "\\`*[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;")


def _name(name: str) -> str:
    # The end of a path tells more than its start.
    shown = printable(name)
    return shown if len(shown) <= NAME_LIMIT else "…" + shown[1 - NAME_LIMIT :]


def figure(value: float | None) -> str:
    """A value with as many digits as logs are quoted with; "-" where there is none."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}" if value else "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-3:
        return f"{value:.4e}"
    return f"{value:.4f}" if size < 1000 else f"{value:,.1f}"


def _logs(dynamics: Dynamics, name: Callable[[str], str]) -> Section:
    rows = []
    marked = set()
    for index, log in enumerate(dynamics.logs):
        kinds = ", ".join(sorted({file.kind for file in log.files}))
        notes = "; ".join(printable(note, limit=160) for note in log.notes) or "-"
        rows.append((name(log.name), *map(str, _extent(log)), kinds, notes))
        if log.notes:
            marked.add(index)
    headers = ("training", "train rows", "last", "evaluations", "last", "read from", "notes")
    return Section(
        kind="logs",
        title="training logs",
        headers=headers,
        rows=tuple(rows),
        left=frozenset({0, 5, 6}),
        marked=frozenset(marked),
    )


def _extent(log: TrainingLog) -> tuple[str, str, str, str]:
    train, evaluation = log.steps("train"), log.steps("eval")
    return (
        str(len(train)),
        str(train[-1]) if train else "-",
        str(len(evaluation)),
        str(evaluation[-1]) if evaluation else "-",
    )


def _end(dynamics: Dynamics, name: Callable[[str], str], *, show_all: bool) -> Section:
    shown = [row for row in dynamics.end if row.known or show_all]
    hidden = len(dynamics.end) - len(shown)
    title = "end of training: the last value of each key"
    if hidden:
        title += f" ({hidden} other keys: --all)"
    steps = (
        ("max train step", *(_extent(log)[1] for log in dynamics.logs)),
        ("max eval step", *(_extent(log)[3] for log in dynamics.logs)),
    )
    return Section(
        kind="end",
        title=title,
        headers=("key", *map(name, dynamics.names)),
        rows=(*steps, *_rows(shown, dynamics)),
    )


def _rows(
    rows: Sequence[TableRow], dynamics: Dynamics, *, step: int | None = None
) -> tuple[tuple[str, ...], ...]:
    """Table rows; a value logged well before the end of its training says at which step."""
    out = []
    for row in rows:
        cells = []
        for log, cell in zip(dynamics.logs, row.cells, strict=True):
            text = figure(None if cell is None else cell.value)
            steps = log.steps(row.split)
            if step is None and cell is not None and cell.step != steps[-1]:
                text += f" @{cell.step}"
            cells.append(text)
        label = printable(row.key, limit=70)
        out.append((label if row.split == "train" else f"eval {label}", *cells))
    return tuple(out)


def _common(dynamics: Dynamics, name: Callable[[str], str]) -> tuple[str, ...]:
    steps = dynamics.steps.everywhere
    out = []
    if steps:
        out.append(f"{len(steps)} in all trainings: {_step_list(steps)}")
    else:
        out.append("no evaluation step is common to all trainings")
    by_names: dict[tuple[str, ...], list[int]] = {}
    for step, names in dynamics.steps.shared:
        by_names.setdefault(names, []).append(step)
    out += [
        f"{_step_list(shared)} in {', '.join(map(name, names))} only"
        for names, shared in by_names.items()
    ]
    return tuple(out)


def _step_list(steps: Sequence[int]) -> str:
    if len(steps) <= 4:
        return ", ".join(map(str, steps))
    return f"{steps[0]}, {steps[1]}, ..., {steps[-1]}"


def ratio_text(audit: RatioAudit) -> str:
    """The verdict of one ratio audit in words."""
    if audit.verdict == "no_pairs":
        return "no evaluation with a training row before it"
    if audit.verdict == "same_scale":
        return "same scale"
    if audit.verdict == "off":
        return "another scale, and no steady factor"
    assert audit.factor is not None
    name = f"1/{audit.steps}" if audit.factor < 1 else f"{audit.steps}"
    source = "accumulation steps in the log" if audit.confirmed else "accumulation steps?"
    fault = "divided once too often" if audit.factor < 1 else "summed, not averaged"
    return f"factor {name} ({audit.steps} {source}): {fault}"


def _ratios(audits: Sequence[RatioAudit], name: Callable[[str], str]) -> Section:
    rows = tuple(
        (
            name(audit.log),
            printable(audit.key, limit=60),
            str(len(audit.pairs)),
            *(_ratio(value) for value in (audit.median, audit.low, audit.high)),
            ratio_text(audit),
        )
        for audit in audits
    )
    return Section(
        kind="ratios",
        title="training / evaluation: each evaluation against the training row before it",
        headers=("training", "loss", "pairs", "median", "min", "max", "verdict"),
        rows=rows,
        left=frozenset({0, 1, 6}),
        marked=frozenset(index for index, audit in enumerate(audits) if audit.flagged),
    )


def _ratio(value: float | None) -> str:
    return number(value)


def trend_text(trend: Trend) -> str:
    """What a curve did, in words."""
    first, last = figure(trend.first[1]), figure(trend.last[1])
    plateau = trend.plateau
    level = ""
    if plateau is not None:
        level = f"flat from {plateau.start} at {figure(plateau.low)} .. {figure(plateau.high)}"
        if figure(plateau.low) == figure(plateau.high):
            level = f"flat from {plateau.start} at {figure(plateau.low)}"
    if trend.verdict == "flat":
        return f"flat at {last}"
    if trend.verdict == "turns":
        assert trend.best is not None
        text = (
            f"improves until {trend.turn}, then worsens: "
            f"{first} -> {figure(trend.best[1])} -> {figure(trend.turn_to)}"
        )
        return f"{text}; {level}" if plateau is not None and trend.turn != plateau.start else text
    if trend.collapse is not None:
        word = "rises" if trend.last[1] > trend.first[1] else "collapses"
        text = f"{word} early: {first} -> {last}, 90 % of it by {trend.collapse}"
        return f"{text}; {level}" if plateau is not None else text
    words = {"improves": "improves", "worsens": "worsens", "unclear": "no clear direction"}
    text = f"{words[trend.verdict]}: {first} -> {last}"
    return f"{text}; {level}" if plateau is not None else text


def _trends(trends: Sequence[Trend], name: Callable[[str], str], *, hidden: int) -> Section:
    rows = tuple(
        (
            printable(trend.key, limit=60),
            name(trend.log) + ("" if trend.split == "eval" else " (train)"),
            trend_text(trend),
        )
        for trend in trends
    )
    return Section(
        kind="trends",
        title="course of each key" + (f" ({hidden} flat ones: --all)" if hidden else ""),
        headers=("key", "training", "what it did"),
        rows=rows,
        left=frozenset({0, 1, 2}),
        marked=frozenset(
            index for index, trend in enumerate(trends) if trend.verdict in {"turns", "worsens"}
        ),
    )


def _pixels(dynamics: Dynamics, name: Callable[[str], str]) -> Section:
    scale = dynamics.scale
    assert scale is not None
    square = scale.width == scale.height

    def both(pair: tuple[float, float], digits: int) -> str:
        x, y = (number(float(value), digits) for value in pair)
        return x if square else f"{x} x {y}"

    rows = tuple(
        (
            name(entry.log),
            printable(entry.key, limit=60),
            figure(entry.bins),
            both(entry.px, 1),
            both(entry.patches, 2),
        )
        for entry in dynamics.pixels
    )
    return Section(
        kind="pixels",
        title=(
            f"bins on an image of {scale.width} x {scale.height} px "
            f"(frame {scale.frame.name}, patch {scale.patch_px} px)"
        ),
        headers=("training", "key", "bins", "px", "patches"),
        rows=rows,
        left=frozenset({0, 1}),
    )


__all__ = [
    "Section",
    "dynamics_sections",
    "figure",
    "ratio_text",
    "render_markdown",
    "render_terminal",
    "trend_text",
]
