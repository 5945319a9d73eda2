"""`monitor_dumps/step_*.json`: a few rollouts of an evaluation in full, failures first.

For reading while a training runs. Nothing is cut: a dump holds at most `count` samples, and a
sample at most what the token limit lets a model write; `bound` in the file says both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from coordeval.metrics.f1 import f1_value
from coordeval.metrics.f1_metrics import iou_name
from coordeval.metrics.tables import headline_row
from coordeval.runs import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from coordeval.metrics.result import ScoreResult
    from coordeval.training.rollout_eval.runs import Evaluated

DUMP_FORMAT = "coordeval-monitor/1"
LOW_F1 = 0.5
# How bad each failure is: samples with the worst come first, among equals those of lower F1.
SEVERITY = {"error": 5, "loop": 4, "truncated": 3, "unparseable": 2, "drop": 1, "low_f1": 0}


def write_dump(
    result: ScoreResult, evaluated: Evaluated, path: Path, *, count: int, max_new_tokens: int
) -> None:
    """Write the dump of one evaluation, replacing the file as a whole; OSError as it comes."""
    dump = monitor_dump(result, evaluated, count=count, max_new_tokens=max_new_tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, orjson.dumps(_storable(dump), option=orjson.OPT_INDENT_2) + b"\n")


def monitor_dump(
    result: ScoreResult, evaluated: Evaluated, *, count: int, max_new_tokens: int
) -> dict[str, Any]:
    """The dump as plain data; fewer samples than `count` where the run holds fewer."""
    judged = [_judged(result, row) for row in _rows(result.per_image)]
    judged.sort(key=_badness)  # stable: among equals in the order of the run
    objects = result.objects
    return {
        "format": DUMP_FORMAT,
        "step": evaluated.step,
        "epoch": evaluated.epoch,
        "run": f"{evaluated.path.parent.name}/{evaluated.path.name}",
        "bound": {"samples": count, "max_new_tokens": max_new_tokens},
        "num_samples": len(judged),
        "num_failures": sum(1 for item in judged if item["failures"]),
        "iou": result.scored.aware.thresholds[headline_row(result.scored.aware)],
        "metrics": result.metrics,
        "samples": [_sample(result, objects, item) for item in judged[:count]],
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.astype(object).where(table.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def _judged(result: ScoreResult, row: dict[str, Any]) -> dict[str, Any]:
    """What failed in one sample, by name, the worst first; and its counts."""
    aware = result.scored.aware
    name = iou_name(aware.thresholds[headline_row(aware)])
    tp, fp, fn = (int(row[f"{part}@{name}"]) for part in ("tp", "fp", "fn"))
    f1 = f1_value(tp, fp, fn)
    dropped = int(row["found"]) - int(row["valid"])
    held = {
        "error": bool(row["error"]),
        "loop": bool(row["loop"]),
        "truncated": bool(row["truncated"]),
        "unparseable": bool(row["unparseable"]),
        "drop": dropped > 0,
        "low_f1": f1 is not None and f1 < LOW_F1,
    }
    counts = {
        "ground_truth": int(row["gt"]),
        "found": int(row["found"]),
        "valid": int(row["valid"]),
        "dropped": dropped,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "f1": f1,
        "tokens": None if row["tokens"] is None else int(row["tokens"]),
    }
    return {
        "id": row["id"],
        "failures": [name for name in SEVERITY if held[name]],
        "counts": counts,
    }


def _badness(item: dict[str, Any]) -> tuple[float, float, int]:
    worst = max((SEVERITY[name] for name in item["failures"]), default=-1)
    f1 = item["counts"]["f1"]
    return -worst, 1.0 if f1 is None else f1, -item["counts"]["dropped"]


def _sample(result: ScoreResult, objects: pd.DataFrame, judged: dict[str, Any]) -> dict[str, Any]:
    entry = next(item for item in result.columns.images if item.id == judged["id"])
    rows = _rows(objects[objects["id"] == entry.id])
    predicted = [row for row in rows if row["role"] == "pred"]
    true = [row for row in rows if row["role"] == "gt"]
    return {
        "id": entry.id,
        "image": entry.image,
        "width": entry.width,
        "height": entry.height,
        "failures": judged["failures"],
        "counts": judged["counts"],
        "finish_reason": entry.finish_reason,
        "error": entry.error,
        "guard": entry.guard,
        "issues": entry.issues,
        "conforming": entry.conforming,
        "text": entry.text,
        "dropped": [_dropped(row, entry.text) for row in predicted if row["reason"] is not None],
        "loops": [
            {
                "start": loop.start_char,
                "onset": loop.onset_char,
                "end": loop.end_char,
                "repeats": loop.repeats,
                "period_records": loop.period_records,
                "wasted_tokens": loop.wasted_tokens,
            }
            for loop in result.loops_of(entry.id)
        ],
        "ground_truth": [_object(row) for row in true],
        "predictions": [
            _object(row) | {"start": int(row["start"]), "end": int(row["end"])}
            for row in predicted
            if row["reason"] is None
        ],
        "matches": [
            {"prediction": int(row["index"]), "ground_truth": int(row["partner"])}
            for row in predicted
            if row["partner"] is not None
        ],
        "missed": [int(row["index"]) for row in true if row["verdict"] == "missed"],
    }


def _dropped(row: dict[str, Any], text: str) -> dict[str, Any]:
    """A dropped record: why, and the characters [start, end) of the text that it takes up."""
    start, end = int(row["start"]), int(row["end"])
    return {
        "index": int(row["index"]),
        "start": start,
        "end": end,
        "reason": row["reason"],
        "detail": row["detail"],
        "evidence": row["evidence"],
        "slot": None if row["slot"] is None else int(row["slot"]),
        "text": text[start:end],
    }


def _object(row: dict[str, Any]) -> dict[str, Any]:
    box = [row[f"{side}_px"] for side in ("x1", "y1", "x2", "y2")]
    return {
        "index": int(row["index"]),
        "desc": row["desc"],
        "kind": row["kind"],
        "values": None if row["values"] is None else list(row["values"]),
        "box_px": None if box[0] is None else [float(side) for side in box],
        "verdict": row["verdict"],
    }


def _storable(value: Any) -> Any:
    """Text that is not valid Unicode (a lone surrogate) keeps its place as an escape."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value


__all__ = ["DUMP_FORMAT", "LOW_F1", "SEVERITY", "monitor_dump", "write_dump"]
