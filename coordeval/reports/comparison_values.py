"""A comparison's numbers and settings as people read them, for the terminal and Markdown alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.counted import counted
from coordeval.metrics.names.stored import names_text
from coordeval.reports.formats import number, percent, points, signed
from coordeval.reports.printable import printable
from coordeval.stats.settings import control_facts, differing_fields, label_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordeval.stats.changes import Change
    from coordeval.stats.comparison import Comparison, Versus
    from coordeval.stats.drop_reasons import DropExample, DropRow
    from coordeval.stats.slice_changes import SliceChange

WORDS: dict[str, str] = {
    "f1/0.30/f1": "F1 at IoU .30",
    "f1/0.50/f1": "F1 at IoU .50",
    "f1/0.50/precision": "boxes that are right",
    "f1/0.50/recall": "objects found",
    "f1/mean/f1": "F1 over IoU .50:.95",
    "f1_loc/0.50/f1": "F1, names ignored",
    "coco/AP": "COCO AP",
    "coco/AP50": "COCO AP at IoU .50",
    "coco/AR100": "COCO average recall",
    "coco_dedup/AP": "AP, copies removed",
    "coco_segm/AP": "COCO AP of masks",
    "lvis/AP": "federated AP (LVIS)",
    "samples/errors": "engine errors",
    "samples/conforming_rate": "outputs without fault",
    "samples/empty_pred_rate": "outputs without a box",
    "samples/truncated_rate": "outputs cut at limit",
    "parse/drop_rate": "records dropped",
    "dup/exact_rate": "exact copies",
    "dup/near_rate": "near copies",
    "dup/loop_rate": "outputs in a loop",
    "count/error_abs_mean": "objects off in number",
    "tokens/mean": "tokens per image",
}
"""Plain words for the headline metrics."""


def is_points(key: str) -> bool:
    """True for AP and AR, which people read in points (0..100)."""
    return key.startswith(("coco", "lvis/A"))


def is_percent(change: Change) -> bool:
    """True for rates and shares, which people read in percent; F1 and its parts stay 0..1."""
    return change.unit == "ratio" and not (
        change.key.startswith(("f1", "coco", "lvis/A"))
        or change.key.endswith(("/f1_best", "/f1_sample"))
    )


def value_text(change: Change, value: float | None) -> str:
    """A metric's value; "-" where there is none."""
    if value is None:
        return "-"
    if is_points(change.key):
        return points(value)
    if is_percent(change):
        return percent(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:z.3f}" if change.unit == "ratio" else f"{value:z,.2f}"


def difference_text(change: Change, value: float | None, *, sign: bool = True) -> str:
    """A difference in the unit of `value_text`, with its sign; percent as points without %."""
    if value is None:
        return "-"
    scaled, digits = value, 3
    if is_points(change.key) or is_percent(change):
        scaled, digits = 100 * value, 1
    elif change.unit != "ratio":
        digits = 0 if isinstance(change.a, int) and isinstance(change.b, int) else 2
        digits = 1 if digits == 0 and not float(value).is_integer() else digits
    return signed(scaled, digits) if sign else f"{scaled:z,.{digits}f}"


def interval_text(change: Change) -> str:
    """The interval of the difference, empty where there is none."""
    if change.low is None or change.high is None:
        return ""
    return f"[{difference_text(change, change.low)}, {difference_text(change, change.high)}]"


def verdict_text(change: Change) -> str:
    """The verdict; at `~` also what could have been seen, or why nothing could."""
    if change.verdict is None:
        return "-" if change.delta is None else "(not resampled)"
    if change.verdict != "~":
        return change.verdict
    if not change.images_differ:
        return "~ identical"
    if change.images_differ < 6:
        return f"~ only {counted(change.images_differ, 'image')}"
    if change.detectable is None:
        return "~"
    return f"~ needs {difference_text(change, change.detectable, sign=False)}"


def summary_text(comparison: Comparison, versus: Versus) -> str:
    """One sentence on one run against A."""
    counts = versus.verdicts
    total = sum(counts.values())
    better, worse = counts["better"], counts["worse"]
    if worse and better:
        head = f"{versus.label} against A is mixed"
    elif worse:
        head = f"{versus.label} is worse than A"
    elif better:
        head = f"{versus.label} is better than A"
    elif all(not change.images_differ for change in versus.changes.values()):
        where = "the one image" if comparison.images == 1 else f"all {comparison.images} images"
        return f"{versus.label} and A wrote the same on {where}."
    else:
        head = f"{versus.label} and A are not told apart"
    parts = [f"{worse} worse", f"{better} better"]
    if counts["differs"]:
        parts.append(f"{counts['differs']} changed without being better or worse")
    parts.append(f"{counts['~']} not told apart")
    if counts["untested"]:
        parts.append(f"{counts['untested']} untested")
    return f"{head}: of {counted(total, 'metric')} {', '.join(parts)}."


def same_text(comparison: Comparison) -> str:
    """The shared configuration in one line."""
    same = comparison.settings.same
    parts = [counted(comparison.images, "image")]
    if "dataset" in same and isinstance(same["dataset"], dict):
        parts[0] += f" (sha {str(same['dataset'].get('sha256'))[:8]})"
    if "checkpoint" in same:
        parts.append(f"checkpoint {label_of(same['checkpoint'], 'checkpoint')}")
    if same.get("adapter"):
        parts.append(f"adapter {label_of(same['adapter'], 'adapter')}")
    if isinstance(same.get("prompt"), dict):
        parts.append(f"prompt {same['prompt'].get('name')}")
    parts += _decode_text(same.get("decode"))
    if isinstance(same.get("engine"), dict):
        parts.append(" ".join(str(value) for value in same["engine"].values() if value))
    parts += [f"frame {same['frame']}"] if "frame" in same else []
    parts.append(f"protocol {comparison.protocol['name']}")
    if "names" in comparison.protocol:
        parts.append(f"names: {names_text(comparison.protocol['names'])}")
    parts.append(f"scores: {comparison.protocol['score_source']}")
    return printable(", ".join(parts))


def _decode_text(decode: Any) -> list[str]:
    if not isinstance(decode, dict):
        return []
    temperature = decode.get("temperature")
    parts = ["greedy" if not temperature else f"temperature {temperature}"]
    if decode.get("max_new_tokens") is not None:
        parts.append(f"max {decode['max_new_tokens']} tokens")
    return parts + control_facts(decode)


def differs_text(comparison: Comparison) -> list[str]:
    """What the runs differ in, one line per setting; values in the order of the runs."""
    lines = []
    differs = dict(comparison.settings.differs)
    if "decode" in differs:
        differs.pop("seed", None)  # the decode settings hold it too
    for name, values in differs.items():
        if name in ("checkpoint", "adapter", "prompt", "dataset"):
            labels = [label_of(value, name) or "not recorded" for value in values]
            lines.append(f"{name}: " + " / ".join(labels))
            continue
        for field, parts in differing_fields(values).items():
            lines.append(f"{name}{' ' + field if field else ''}: " + " / ".join(parts))
    return [printable(line) for line in lines]


def ties_text(comparison: Comparison) -> str | None:
    """How far AP depends on the order of tied scores; None without ties."""
    parts = []
    for run in comparison.runs:
        metrics = run.metrics
        tied = metrics.get("score/tied_frac")
        low, high = metrics.get("coco/AP_tie_min"), metrics.get("coco/AP_tie_max")
        if tied and low is not None and high is not None:
            parts.append(f"{run.label} {100 * tied:.0f} %: AP {100 * low:.1f} to {100 * high:.1f}")
    if not parts:
        return None
    return "boxes whose score another box has too, and AP by their order: " + "; ".join(parts)


def drop_name(row: DropRow) -> str:
    """Reason and detail of a row of drops."""
    return printable(f"{row.reason}/{row.detail}" if row.detail else row.reason, limit=44)


def examples_text(examples: tuple[DropExample, ...]) -> str:
    """What was written instead: the most frequent pieces; slots count from 1."""
    parts = []
    for example in examples:
        where = "" if example.slot is None else f" in slot {example.slot + 1}"
        parts.append(f'"{printable(example.evidence, limit=24)}"{where} ({example.count})')
    return ", ".join(parts)


def worst_texts(versus: Versus) -> Iterator[str]:
    """How concentrated the change is: for F1 and for drops, one line each."""
    for movers, what in ((versus.movers, "change of F1"), (versus.drop_movers, "change of drops")):
        if movers is None or movers.worst[0].share is None:
            continue
        change = versus.changes[movers.key]
        percents = " / ".join(str(part.percent) for part in movers.worst)
        numbers = " / ".join(str(part.images) for part in movers.worst)
        shares = " / ".join(f"{100 * (part.share or 0):.0f}" for part in movers.worst)
        middle = movers.worst[1]
        yield (
            f"{what}: the {percents} % of images that moved most ({numbers}) carry {shares} % of "
            f"it; without the {middle.percent} %: A {value_text(change, middle.a_without)}, "
            f"{versus.label} {value_text(change, middle.b_without)} "
            f"({difference_text(change, middle.delta_without)})"
        )


def slice_value(value: float | None, *, sign: bool = False) -> str:
    """A slice's F1 or recall; "-" where there is none."""
    if value is None:
        return "-"
    return signed(value, 2) if sign else number(float(value), 2)


def most_changed(versus: Versus, kind: str, limit: int) -> list[SliceChange]:
    """Slices of a kind by how much their change weighs: difference times objects."""
    parts = [part for part in versus.slices if part.kind == kind and part.delta]
    parts.sort(key=lambda part: -abs(part.delta or 0) * max(part.objects, 1))
    return parts[:limit]


def method_text(comparison: Comparison) -> str:
    """How the evidence was made, in words."""
    options = comparison.options
    return (
        f"Paired bootstrap over {counted(comparison.images, 'image')}, "
        f"{counted(options.draws, 'draw')} "
        f"(AP and AR: {options.coco_draws:,}; without exact copies and by size "
        f"{options.coco_draws // 2:,}), seed {options.seed}; 95 % percentile intervals. "
        f"better / worse: p <= .05 after Benjamini-Hochberg over the {len(comparison.headline)} "
        'metrics of this table. ~: not told apart; "needs" is the smallest difference that 8 of 10 '
        'such comparisons would show; "only n images": fewer than 6 that differ prove nothing.'
    )


__all__ = [
    "WORDS",
    "difference_text",
    "differs_text",
    "drop_name",
    "examples_text",
    "interval_text",
    "is_percent",
    "is_points",
    "method_text",
    "most_changed",
    "same_text",
    "slice_value",
    "summary_text",
    "ties_text",
    "value_text",
    "verdict_text",
    "worst_texts",
]
