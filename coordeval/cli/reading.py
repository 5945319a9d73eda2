"""How a run's texts are read: its own dialect and frame, or others that options ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect, FieldOrder
    from coordeval.runs import Run


def read_as(run: Run, *, dialect: str | None, field_order: str | None, frame: str | None) -> Run:
    """The run with another reading than its own where options ask for one.

    `dialect` is a name, a TOML file or `auto`. `frame` says what the numbers of any dialect mean;
    without it another model's dialect means what its family means by them, or what the run says
    where that is the run's own dialect. Raises ConfigError.
    """
    from coordeval.cli.auto_dialect import decide_dialect, texts_of
    from coordeval.coords import frame_named
    from coordeval.parsers.dialects import AUTO_DIALECT
    from coordeval.parsers.proposing import candidates_in

    meta = dict(run.meta)
    if frame is not None:
        meta["frame"] = frame_named(frame).name
    if dialect == AUTO_DIALECT:
        own_frame = replace(run, meta=meta).frame
        candidates = candidates_in(None if frame is None else frame_named(frame))
        candidates = {name: _as_stored(one, meta) for name, one in candidates.items()}
        proposal = decide_dialect(
            texts_of(run), own_frame, where=str(run.path), candidates=candidates
        )
        meta["dialect_proposal"] = proposal.to_json()
        dialect = proposal.chosen
    chosen = _chosen(meta, dialect, field_order)
    if chosen is not None and chosen.is_foreign and frame is not None:
        chosen = replace(chosen, frame=meta["frame"])
    if chosen is not None:
        meta["dialect"] = chosen.to_json()
    return replace(run, meta=meta)


def by_default(run: Run, frame: str | None) -> tuple[str | None, str | None]:
    """Dialect and frame of coordeval.toml, for what run.json and the option `frame` leave open.

    As `reading_defaults`, which is not asked where run.json names the dialect.
    """
    if run.meta.get("dialect") is not None:
        return None, frame
    return reading_defaults(run.path, frame, frame_is_open=run.meta.get("frame") is None)


def reading_defaults(
    source: Path, frame: str | None, *, frame_is_open: bool = True
) -> tuple[str | None, str | None]:
    """Dialect and frame of coordeval.toml for texts that say neither; None where it is silent.

    For runs, bare files and dumps alike: `source` is where the texts stand, `frame` the option,
    which overrides. What is taken is said on stderr. Where a dialect is named by an option its own
    frame holds, so that this is not asked. Raises ConfigError for a file that is wrong.
    """
    from coordeval.config import load_defaults
    from coordeval.reports.printable import printable

    defaults = load_defaults(Path.cwd(), near=source)
    if frame is None and frame_is_open:
        frame = defaults.frame
    taken = [f"dialect {defaults.dialect}"] if defaults.dialect is not None else []
    taken += [f"frame {frame}"] if frame is not None and frame == defaults.frame else []
    if taken:
        typer.echo(printable(f"{source}: {', '.join(taken)} of {defaults.source}"), err=True)
    return defaults.dialect, frame


def _chosen(meta: dict[str, object], name: str | None, field_order: str | None) -> Dialect | None:
    """The dialect that options and run.json lead to; None where neither names one."""
    from coordeval.parsers.dialects import (
        DEFAULT_DIALECT,
        dialect_from_json,
        dialect_named,
        with_field_order,
    )

    order = _field_order(field_order)
    enforce = order is not None
    if name is not None:
        named = dialect_named(name, field_order=order, enforce_field_order=enforce)
        return _as_stored(named, meta)
    stored = meta.get("dialect")
    if isinstance(stored, dict):
        dialect = dialect_from_json(stored)
        return with_field_order(dialect, order, enforce=True) if enforce else dialect
    return (
        dialect_named(DEFAULT_DIALECT, field_order=order, enforce_field_order=True)
        if enforce
        else None
    )


def _as_stored(dialect: Dialect, meta: dict[str, object]) -> Dialect:
    """The dialect with the frame that the run settled for it; as it is where the run's is another.

    Pixels of a resized image are those of the limits that the rollout was made with.
    """
    stored = meta.get("dialect")
    if not dialect.is_foreign or not isinstance(stored, dict) or stored.get("name") != dialect.name:
        return dialect
    from coordeval.parsers.dialects import dialect_from_json

    return replace(dialect, frame=dialect_from_json(stored).frame)


def _field_order(text: str | None) -> FieldOrder | None:
    from coordeval.errors import ConfigError

    if text is None:
        return None
    if text == "desc_first":
        return "desc_first"
    if text == "geometry_first":
        return "geometry_first"
    raise ConfigError(f"--field-order {text!r}: use desc_first or geometry_first")


__all__ = ["by_default", "read_as", "reading_defaults"]
