"""Scored runs to one report page: figures, summary, gallery, thumbnails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import coordeval
from coordeval.counted import counted
from coordeval.reports.charts.figures import FIGURES
from coordeval.reports.charts.palette import vega_config
from coordeval.reports.formats import number
from coordeval.reports.html.embed import pack_chunks
from coordeval.reports.html.findings import findings
from coordeval.reports.html.gallery import build_gallery
from coordeval.reports.html.images import thumbnails
from coordeval.reports.html.intervals import NOTE, run_changes, run_intervals
from coordeval.reports.html.loops import loop_rows
from coordeval.reports.html.names import name_lists
from coordeval.reports.html.page import render_page
from coordeval.reports.html.settings import settings_rows
from coordeval.reports.html.summary import all_metrics, headline
from coordeval.reports.html.warnings import report_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.shown import ShownRun
    from coordeval.reports.html.images import Thumbnails
    from coordeval.reports.html.intervals import Changes, Interval
    from coordeval.reports.html.training import TrainingPart

DEFAULT_THUMBNAILS = 200

SECTIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("steps", "Over training steps", "Steps", ("steps",)),
    ("attribution", "What the failures cost", "Costs", ("attribution",)),
    ("drops", "Dropped records", "Drops", ("drops", "issues")),
    ("repeats", "Duplicates and loops", "Repeats", ("repeats",)),
    ("curves", "Curves", "Curves", ("precision_recall", "f1_iou")),
    ("counts", "Counts and coordinates", "Counts", ("counts", "bin_errors")),
    ("slots", "Coordinate slots", "Slots", ("slots",)),
)
"""Sections of the page between summary and gallery: fragment, heading, short name, figures."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished page and what went into it."""

    html: str
    images: int
    objects: int
    thumbnails: Thumbnails


def build_report(
    runs: Sequence[ShownRun],
    *,
    max_thumbnails: int = DEFAULT_THUMBNAILS,
    image_root: Path | None = None,
    training: TrainingPart | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Report:
    """Put the page together; a pure function of the runs and the image files.

    `training` adds the section on training logs; without runs, the page is
    `training_page.build_training_page`. `on_stage` hears what is being done. Runs without samples
    give a page that says so.
    """
    on_stage("drawing figures")
    figures = {name: builder(runs) for name, builder in FIGURES.items()}
    curves = training.curves if training is not None else ()
    on_stage("intervals")
    intervals, changes = run_intervals(runs), run_changes(runs)
    on_stage("embedding images")
    gallery = build_gallery(runs)
    pictures = thumbnails(gallery.wanted(image_root), max_thumbnails)
    on_stage("collecting texts")
    details = [pack_chunks(gallery.chunks(run)) for run in range(len(runs))]
    on_stage("writing the page")
    index = gallery.index() | {
        "missing": sorted(pictures.missing),
        "cap": pictures.cap,
    }
    html = render_page(
        _context(runs, figures, intervals, changes, pictures, len(gallery.ids))
        | {"training": training},
        {
            "figures": [figure.to_json() for figure in (*figures.values(), *curves) if figure.spec],
            "themes": {"light": vega_config("light"), "dark": vega_config("dark")},
            "index": index,
            "details": details,
            "thumbnails": {str(position): uri for position, uri in pictures.uris.items()},
        },
    )
    return Report(
        html=html,
        images=len(gallery.ids),
        objects=sum(len(shown.result.columns.records) for shown in runs),
        thumbnails=pictures,
    )


def _context(
    runs: Sequence[ShownRun],
    figures: dict[str, Figure],
    intervals: Sequence[dict[str, Interval]],
    changes: Changes,
    pictures: Thumbnails,
    num_images: int,
) -> dict[str, Any]:
    same, differing = settings_rows(runs)
    sections = [
        (fragment, heading, [figures[name] for name in names], short)
        for fragment, heading, short, names in SECTIONS
    ]
    return {
        "title": " · ".join(shown.label for shown in runs[:4])
        + (f" and {len(runs) - 4} more" if len(runs) > 4 else ""),
        "runs": runs,
        "num_images": number(num_images),
        "version": coordeval.__version__,
        "warnings": report_warnings(runs, changes.refusal),
        "findings": [
            (shown.label, findings(shown, against=runs[0].label, changes=part))
            for shown, part in zip(runs, ({}, *changes.by_run), strict=True)
        ],
        "headline": headline(runs, intervals, changes.by_run),
        "has_intervals": any(intervals),
        "has_changes": any(changes.by_run),
        "interval_note": NOTE,
        "all_metrics": all_metrics(runs),
        "same": same,
        "differing": differing,
        "sections": [part for part in sections if _is_shown(part)],
        "absent": [part[2][0] for part in sections if not _is_shown(part)],
        "loops": loop_rows(runs),
        "name_lists": name_lists(runs),
        "pictures": _picture_sentence(pictures, num_images),
    }


def _is_shown(section: tuple[str, str, list[Figure], str]) -> bool:
    """Whether a section has something to say; that nothing was dropped is worth saying."""
    fragment, _, figures, _ = section
    return fragment in ("drops", "repeats") or any(figure.spec for figure in figures)


def _picture_sentence(pictures: Thumbnails, num_images: int) -> str:
    """How many images the page shows, and why it does not show the others."""
    embedded = f"{number(len(pictures.uris))} of {number(num_images)} images are embedded"
    cap = f"as thumbnails (at most {number(pictures.cap)}, those with most failures first)"
    parts = [f"{embedded} {cap}"]
    if pictures.beyond_cap:
        parts.append(f"{number(pictures.beyond_cap)} lie beyond that number")
    if pictures.missing:
        parts.append(f"{counted(len(pictures.missing), 'image file')} could not be read")
    if pictures.unnamed:
        parts.append(f"{counted(pictures.unnamed, 'sample')} without the name of an image file")
    if pictures.misfits:
        parts.append(
            f"{counted(pictures.misfits, 'file')} of other proportions than the sample says"
        )
    return "; ".join(parts) + "."


__all__ = ["DEFAULT_THUMBNAILS", "SECTIONS", "Report", "build_report"]
