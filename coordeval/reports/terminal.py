"""The report of one run in the terminal: health, drops, duplicates, F1 and AP, worst images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.text import Text

from coordeval.counted import counted
from coordeval.metrics.names.stored import names_text
from coordeval.reports.control_table import control_table
from coordeval.reports.formats import bar, number, percent, points
from coordeval.reports.lvis_table import lvis_table
from coordeval.reports.name_table import name_table
from coordeval.reports.number_table import NumberTable
from coordeval.reports.printable import printable
from coordeval.stats.settings import control_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from coordeval.metrics.result import ScoreResult

DETAILS_SHOWN = 3
Metrics = dict[str, Any]


def score_report(result: ScoreResult, *, name: str, meta: dict[str, Any]) -> Group:
    """All sections for one scored run; `meta` is its run.json, empty for a bare file."""
    metrics = result.metrics
    parts: list[RenderableType] = [_heading(result, name, meta), _health(metrics)]
    parts.append(_histogram("dropped records", dict(_drops(metrics))))
    issues = _under(metrics, "parse/issue/")
    if any(issues.values()):
        parts.append(_histogram("issues (texts)", issues))
    parts += [_duplicates(metrics), _f1(metrics), _coco(result)]
    if "lvis/AP" in metrics:
        parts.append(lvis_table(metrics))
    if result.names is not None:
        parts.append(name_table(result.names))
    if result.slots is not None or result.guarded or result.oracle is not None:
        parts.append(control_table(result))
    worst = _worst(result)
    if worst is not None:
        parts.append(worst)
    return Group(*parts)


def _table(*headers: str) -> NumberTable:
    table = NumberTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_text(headers[0])
    for header in headers[1:]:
        table.add_number(header)
    return table


def _heading(result: ScoreResult, name: str, meta: dict[str, Any]) -> Text:
    metrics = result.metrics
    text = Text(printable(name), style="bold")
    if result.status != "complete":
        text.append(f"  [{result.status}]", style="bold yellow")
    text.append("\n")
    facts = [counted(metrics.get("samples/total"), "image")]
    facts += list(_facts_of(meta))
    facts.append(f"protocol {result.protocol['name']}")
    if "names" in result.protocol:
        facts.append(f"names: {names_text(result.protocol['names'])}")
    facts.append(f"scores: {result.score_source}")
    text.append(", ".join(printable(fact) for fact in facts), style="dim")
    return text


def _facts_of(meta: dict[str, Any]) -> Iterator[str]:
    checkpoint = meta.get("checkpoint")
    if isinstance(checkpoint, dict) and checkpoint.get("name"):
        yield str(checkpoint["name"])
    decode = meta.get("decode")
    if isinstance(decode, dict):
        yield "greedy" if not decode.get("temperature") else f"T {decode['temperature']}"
        yield f"max {decode.get('max_new_tokens')} tokens"
        yield from control_facts(decode)
    if meta.get("frame"):
        yield f"frame {meta['frame']}"


def _health(metrics: Metrics) -> NumberTable:
    table = _table("health", "", "")
    rows = [
        ("conforming", "samples/conforming_rate"),
        ("valid prediction", "samples/valid_pred_rate"),
        ("empty prediction", "samples/empty_pred_rate"),
        ("unparseable", "samples/unparseable_rate"),
        ("truncated", "samples/truncated_rate"),
    ]
    for label, key in rows:
        table.add_row(label, percent(metrics.get(key)), "")
    table.add_row("engine errors", number(metrics.get("samples/errors")), "")
    found, dropped = metrics.get("parse/objects_found"), metrics.get("parse/dropped_invalid")
    table.add_row(
        "records dropped",
        percent(metrics.get("parse/drop_rate")),
        f"{number(dropped)} of {number(found)} found",
    )
    mean = metrics.get("tokens/mean")
    if mean is not None:
        table.add_row(
            "tokens per image", number(mean, 1), f"largest {number(metrics.get('tokens/max'))}"
        )
    return table


def _drops(metrics: Metrics) -> Iterator[tuple[str, float]]:
    """Rows `reason` and, where a reason has several, `reason/detail` for the most frequent."""
    for reason, count in _under(metrics, "parse/dropped/").items():
        if not count:
            continue
        details = _under(metrics, f"parse/detail/{reason}/")
        ranked = sorted(details.items(), key=lambda item: -item[1])
        if not ranked:
            yield reason, count
            continue
        for detail, detail_count in ranked[:DETAILS_SHOWN]:
            yield f"{reason}/{detail}", detail_count
        rest = count - sum(detail_count for _, detail_count in ranked[:DETAILS_SHOWN])
        if rest > 0:
            yield f"{reason}/other", rest


def _under(metrics: Metrics, prefix: str) -> dict[str, float]:
    return {
        key.removeprefix(prefix): value
        for key, value in metrics.items()
        if key.startswith(prefix) and value is not None
    }


def _histogram(title: str, counts: dict[str, float]) -> RenderableType:
    shown = sorted(((k, v) for k, v in counts.items() if v), key=lambda item: -item[1])
    if not shown:
        return Text(f" {title}: none", style="green")
    table = _table(title, "", "")
    table.columns[2].justify = "left"
    largest = shown[0][1]
    for name, count in shown:
        table.add_row(printable(name, limit=60), number(count), Text(bar(count, largest), "red"))
    return table


def _duplicates(metrics: Metrics) -> NumberTable:
    table = _table("duplicates and loops", "", "")
    exact, near = metrics.get("dup/exact_objects"), metrics.get("dup/near_objects")
    table.add_row("exact copies", percent(metrics.get("dup/exact_rate")), number(exact))
    table.add_row("near copies (IoU .90)", percent(metrics.get("dup/near_rate")), number(near))
    table.add_row("most copies of one object", "", number(metrics.get("dup/max_repeat")))
    table.add_row(
        "images with a loop",
        percent(metrics.get("dup/loop_rate")),
        number(metrics.get("dup/loop_samples")),
    )
    table.add_row("tokens wasted in loops", "", number(metrics.get("dup/wasted_tokens")))
    return table


def _f1(metrics: Metrics) -> NumberTable:
    table = _table("F1", "precision", "recall", "F1", "tp", "fp", "fn")
    families = [("f1", ""), ("f1_loc", "class ignored"), ("f1_dedup", "without exact copies")]
    for family, note in families:
        for iou in ("0.30", "0.50", "0.75", "mean"):
            keys = {
                leaf: metrics.get(f"{family}/{iou}/{leaf}")
                for leaf in ("precision", "recall", "f1", "tp", "fp", "fn")
            }
            if f"{family}/{iou}/f1" not in metrics:
                continue
            label = f"@.50:.95 {note}" if iou == "mean" else f"@{iou[1:]} {note}"
            shares = [number(keys[leaf]) for leaf in ("precision", "recall", "f1")]
            counts = [number(keys[leaf]) for leaf in ("tp", "fp", "fn")]
            if iou == "mean":
                counts = [""] * 3
            table.add_row(label.rstrip(), *shares, *counts)
    return table


def _coco(result: ScoreResult) -> NumberTable:
    metrics = result.metrics
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
    table = _table("COCO", *names)
    labels = {"coco": "boxes", "coco_dedup": "without exact copies", "coco_segm": "polygons"}
    for family, label in labels.items():
        values = [metrics.get(f"{family}/{name}") for name in names]
        if f"{family}/AP" in metrics:
            table.add_row(label, *[points(value) for value in values])
    tied = metrics.get("score/tied_frac")
    low, high = metrics.get("coco/AP_tie_min"), metrics.get("coco/AP_tie_max")
    if tied and low is not None:
        table.caption = (
            f"scores: {result.score_source}; {percent(tied)} of them tied: "
            f"AP {points(low)} to {points(high)} by the order of ties"
        )
        table.caption_justify = "left"
    return table


def _worst(result: ScoreResult) -> NumberTable | None:
    worst = [image for image in result.worst_images(5) if image.failures]
    if not worst:
        return None
    table = _table("worst images", "right", "wrong", "missed", "dropped", "loop")
    for image in worst:
        table.add_row(
            printable(image.id, limit=48),
            number(image.tp),
            number(image.fp),
            number(image.fn),
            number(image.drops),
            "yes" if image.loop else "",
        )
    return table


__all__ = ["score_report"]
