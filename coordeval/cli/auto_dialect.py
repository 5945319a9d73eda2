"""`--dialect auto`: what was looked at, what is proposed and why, said on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from coordeval.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from coordeval.coords import CoordFrame
    from coordeval.parsers.dialects import Dialect
    from coordeval.parsers.proposing import Proposal, ReadText
    from coordeval.runs import Run

SHOWN = 6


def decide_dialect(
    texts: Iterable[ReadText], frame: CoordFrame, *, where: str, candidates: Mapping[str, Dialect]
) -> Proposal:
    """The proposal for texts, shown on stderr with the counts of each dialect.

    `frame` is what coordeval's own dialects mean; `candidates` come with the frames in which the
    texts will be read.
    Raises ConfigError where the texts leave the choice open.
    """
    from coordeval.errors import ConfigError
    from coordeval.parsers.proposing import propose
    from coordeval.reports.printable import printable

    proposal = propose(texts, frame, candidates)
    typer.echo(
        printable(f"--dialect auto: the first {counted(proposal.texts, 'text')} of {where}"),
        err=True,
    )
    for line in table(proposal):
        typer.echo(printable(line), err=True)
    if proposal.chosen is None:
        raise ConfigError(f"--dialect auto: {proposal.why}")
    typer.echo(printable(f"--dialect auto: using {proposal.chosen}: {proposal.why}"), err=True)
    return proposal


def table(proposal: Proposal) -> list[str]:
    """The readings that found anything, best first, as lines of equal columns."""
    heads = ("dialect", "conforming", "read", "contained", "found", "valid", "on the image")
    shown = [one for one in proposal.readings if one.found or one.conforming][:SHOWN]
    rows = [
        (
            one.dialect,
            one.conforming,
            one.read,
            one.contained,
            one.found,
            one.valid,
            one.fitting,
        )
        for one in shown
    ]
    width = max(len(heads[0]), *(len(str(row[0])) for row in rows), 0) if rows else len(heads[0])
    lines = [f"  {heads[0]:<{width}}" + "".join(f"  {head:>12}" for head in heads[1:])]
    for name, *counts in rows:
        lines.append(f"  {name:<{width}}" + "".join(f"  {count:>12,}" for count in counts))
    if not rows:
        lines.append("  (no dialect finds a record)")
    return lines


def texts_of(run: Run) -> Iterator[ReadText]:
    """The texts of a run's headline samples that an engine finished."""
    from coordeval.parsers.proposing import ReadText

    for rollout in run.rollouts():
        if rollout.sample_index == 0 and not rollout.failed:
            yield ReadText(rollout.text, rollout.width, rollout.height)


__all__ = ["decide_dialect", "table", "texts_of"]
