"""What the `data` commands print for people: tables on stdout, progress on stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from coordeval.counted import counted
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordeval.data.ceiling import GridCeiling
    from coordeval.data.convert import ConversionCounts
    from coordeval.data.dataset import Dataset
    from coordeval.data.stats import DatasetStats, Spread
    from coordeval.data.token_budget import TokenBudget
    from coordeval.data.validate import ValidationReport

MAX_CLASSES = 20


def _console() -> Console:
    # Text of datasets is printed as it stands: no markup, no highlighting, no cut lines.
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def image_progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, shown from the first image on."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("images", total=None, visible=False)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield on_progress


def print_conversion(dataset: Dataset, out: Path, counts: ConversionCounts) -> None:
    """What was written and what had to be changed; zeros are printed too."""
    console = _console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("images", counts.images),
        ("objects", counts.objects),
        ("coordinates clamped to the grid", counts.clamped),
        ("objects with clamped coordinates", counts.clamped_objects),
        ("boxes widened by one bin", counts.widened),
    ]
    rows += [(f"polygons to boxes: {reason}", n) for reason, n in counts.fallbacks.items()]
    if counts.lines_left_out:
        rows.append(("lines left out (COCO has none)", counts.lines_left_out))
    if counts.classes_lost:
        rows.append(("classes without objects, not in the output", counts.classes_lost))
    for name, value in rows:
        table.add_row(name, f"{value:,}")
    console.print(printable(f"wrote {out}"))
    console.print(table)
    if out.resolve().parent != dataset.image_root.resolve():
        root = printable(str(dataset.image_root))
        console.print(f"image paths are as before: read it with --image-root {root}")


def print_validation(report: ValidationReport) -> None:
    """The first problems of each kind with their places, then all counts."""
    from coordeval.data.problems import PROBLEM_KINDS

    console = _console()
    for problem in report.log.first:
        severity = PROBLEM_KINDS[problem.kind].severity
        text = f"{problem.place}: {severity}: {problem.kind}: {problem.message}"
        console.print(printable(text))
    counts = report.log.counts
    if counts:
        table = Table(box=None, pad_edge=False)
        table.add_column("problem")
        table.add_column("")
        table.add_column("count", justify="right")
        table.add_column("meaning")
        for kind, (severity, meaning) in PROBLEM_KINDS.items():
            if counts[kind]:
                table.add_row(kind, severity, f"{counts[kind]:,}", meaning)
        console.print()
        console.print(table)
        console.print()
    console.print(
        f"{printable(str(report.path))} ({report.format}): {counted(report.num_images, 'image')}, "
        f"{counted(report.num_objects, 'object')}, "
        f"{counted(report.num_images_checked, 'image file')} checked: "
        f"{counted(report.count('error'), 'error')}, "
        f"{counted(report.count('warning'), 'warning')}"
    )
    if report.hint is not None:
        console.print(printable(f"hint: {report.hint}"))


def print_stats(
    dataset: Dataset, stats: DatasetStats, budget: TokenBudget, ceiling: GridCeiling | None
) -> None:
    """Counts, spreads, classes, token budget and the ceiling of the grid."""
    console = _console()
    crowd = f", {counted(stats.crowd, 'crowd region')} besides" if stats.crowd else ""
    console.print(
        f"{printable(str(dataset.path))} ({dataset.format}, sha256 {dataset.sha256[:12]})"
    )
    console.print(
        f"{counted(stats.images, 'image')} ({stats.empty_images:,} empty), "
        f"{counted(stats.objects, 'object')}{crowd}"
    )
    console.print(
        f"without extent {stats.degenerate:,}, exact duplicates {stats.exact_duplicates:,}, "
        f"near duplicates {stats.near_duplicates:,}"
    )
    sizes = ", ".join(f"{name} {count:,}" for name, count in stats.sizes.items())
    kinds = ", ".join(f"{name} {count:,}" for name, count in stats.geometries.items()) or "-"
    console.print(f"sizes (COCO): {sizes}; geometries: {kinds}")
    console.print(_spreads(stats, budget))
    console.print(_classes(stats))
    if stats.unused_classes:
        words = "class of the list has", "classes of the list have"
        console.print(f"{counted(len(stats.unused_classes), *words)} no object")
    _print_budget(console, budget)
    if ceiling is not None:
        _print_ceiling(console, ceiling)


def _spreads(stats: DatasetStats, budget: TokenBudget) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")

    def add(label: str, spread: Spread | TokenBudget | None, form: str) -> None:
        values = [getattr(spread, name, None) for name in ("mean", "p50", "p90", "p99", "max")]
        table.add_row(label, *("-" if value is None else format(value, form) for value in values))

    add("objects per image", stats.objects_per_image, ",.1f")
    add("object area / image area", stats.relative_area, ".4f")
    add("answer tokens" + (" (estimated)" if budget.estimated else ""), budget, ",.0f")
    return table


def _classes(stats: DatasetStats) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("objects", justify="right")
    for name, count in list(stats.classes.items())[:MAX_CLASSES]:
        table.add_row(printable(name), f"{count:,}")
    rest = list(stats.classes.values())[MAX_CLASSES:]
    if rest:
        table.add_row(f"... {len(rest):,} more", f"{sum(rest):,}")
    return table


def _print_budget(console: Console, budget: TokenBudget) -> None:
    if budget.recommended_max_new_tokens is None:
        return
    basis = "estimated; --tokenizer counts" if budget.estimated else "counted"
    console.print(f"recommended --max-new-tokens {budget.recommended_max_new_tokens:,} ({basis})")


def _print_ceiling(console: Console, ceiling: GridCeiling) -> None:
    if ceiling.ap is None or ceiling.ap75 is None or ceiling.ap95 is None:
        console.print("ceiling of the bin grid: - (no boxes)")
        return
    console.print(
        f"ceiling of the bin grid: AP {ceiling.ap:.4f}, AP75 {ceiling.ap75:.4f}, "
        f"AP95 {ceiling.ap95:.4f}; mean IoU {ceiling.mean_iou:.4f}, "
        f"{ceiling.widened:,} of {counted(ceiling.num_boxes, 'box', 'boxes')} widened"
    )


__all__ = [
    "image_progress",
    "print_conversion",
    "print_stats",
    "print_validation",
]
