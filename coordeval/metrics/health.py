"""How sound the outputs are: rates over samples, drops by reason, issues."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.f1 import ratio
from coordeval.parsers.reasons import DROP_REASONS, ISSUES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns, ImageEntry

MAX_DETAILS_PER_REASON = 50
MAX_DETAIL_CHARS = 80
OTHER_DETAILS = "(other)"
_NOT_IN_KEYS = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029/\ud800-\udfff]")
_NOT_AN_EMPTY_LIST = frozenset(
    {"empty_output", "no_container", "truncated", "stray_value", "unclosed_string"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Per image (all images; False where the engine failed): what kind of output it is."""

    conforming: NDArray[np.bool_]
    empty_pred: NDArray[np.bool_]
    unparseable: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid_pred: NDArray[np.bool_]


def sample_flags(columns: Columns) -> Flags:
    """Classify every image's output.

    unparseable: something written, no record found, and not a clean empty list. empty_pred: no
    valid object, except for a clean empty list on an image without ground truth. truncated:
    finish_reason `length`, or, where no reason is stored, the parser's issue.
    """
    rows = [_flags_of(entry) for entry in columns.images]
    table = np.array(rows, dtype=bool).reshape(-1, 5)
    return Flags(
        conforming=table[:, 0],
        empty_pred=table[:, 1],
        unparseable=table[:, 2],
        truncated=table[:, 3],
        valid_pred=table[:, 4],
    )


def _flags_of(entry: ImageEntry) -> tuple[bool, bool, bool, bool, bool]:
    if entry.failed:
        return False, False, False, False, False
    clean_empty = not entry.num_found and _NOT_AN_EMPTY_LIST.isdisjoint(entry.issues)
    if entry.finish_reason is None:
        truncated = "truncated" in entry.issues
    else:
        truncated = entry.finish_reason == "length"
    return (
        entry.conforming,
        not entry.num_valid and not (clean_empty and not entry.num_gt_written),
        not entry.num_found and not clean_empty and bool(entry.text.strip()),
        truncated,
        entry.num_valid > 0,
    )


def health_metrics(columns: Columns, flags: Flags) -> dict[str, float | None]:
    """`samples/*` and `parse/*`; every known reason and issue has its key, also at 0."""
    evaluated = int(columns.alive.sum())
    out: dict[str, float | None] = {
        "samples/total": columns.num_images,
        "samples/errors": columns.num_images - evaluated,
        "samples/conforming_rate": ratio(int(flags.conforming.sum()), evaluated),
        "samples/empty_pred_rate": ratio(int(flags.empty_pred.sum()), evaluated),
        "samples/unparseable_rate": ratio(int(flags.unparseable.sum()), evaluated),
        "samples/truncated_rate": ratio(int(flags.truncated.sum()), evaluated),
        "samples/valid_pred_rate": ratio(int(flags.valid_pred.sum()), evaluated),
    }
    found = len(columns.records)
    dropped = found - int(columns.record_valid.sum())
    out |= {
        "parse/objects_found": found,
        "parse/objects_valid": found - dropped,
        "parse/dropped_invalid": dropped,
        "parse/drop_rate": ratio(dropped, found),
    }
    out |= _drop_metrics(columns)
    issues = Counter(name for entry in columns.images for name in entry.issues)
    out |= {f"parse/issue/{name}": issues[name] for name in ISSUES}
    out |= {f"parse/issue/{name}": count for name, count in issues.items() if name not in ISSUES}
    return out


def _drop_metrics(columns: Columns) -> dict[str, float | None]:
    rows = np.flatnonzero(~columns.record_valid).tolist()
    reasons = Counter(columns.records.reason[row] for row in rows)
    out: dict[str, float | None] = {
        f"parse/dropped/{reason}": reasons[reason] for reason in DROP_REASONS
    }
    details: dict[str, Counter[str]] = {}
    for row in rows:
        detail = columns.records.detail[row]
        if detail is not None:
            reason = columns.records.reason[row] or ""
            details.setdefault(reason, Counter())[detail_key(detail)] += 1
    for reason, counter in sorted(details.items()):
        for name, count in _capped(counter).items():
            out[f"parse/detail/{reason}/{name}"] = count
    return out


def _capped(counter: Counter[str]) -> dict[str, int]:
    """The most frequent details (ties by name); the rest under `(other)`."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= MAX_DETAILS_PER_REASON:
        return dict(ordered)
    kept = dict(ordered[: MAX_DETAILS_PER_REASON - 1])
    kept[OTHER_DETAILS] = sum(count for _, count in ordered[MAX_DETAILS_PER_REASON - 1 :])
    return kept


def detail_key(detail: str) -> str:
    """A detail fit for a metric key: no slashes or control signs, at most 80 characters."""
    clean = _NOT_IN_KEYS.sub("_", detail).strip() or "_"
    return clean if len(clean) <= MAX_DETAIL_CHARS else clean[: MAX_DETAIL_CHARS - 1] + "…"


def drops_per_image(columns: Columns) -> dict[str, NDArray[np.int64]]:
    """Dropped records per image, for every reason."""
    rows = np.flatnonzero(~columns.record_valid)
    names = list(DROP_REASONS)
    index = {name: place for place, name in enumerate(names)}
    table = np.zeros((len(names), columns.num_images), dtype=np.int64)
    for row in rows.tolist():
        table[index[columns.records.reason[row] or ""], columns.records.image[row]] += 1
    return {name: table[place] for place, name in enumerate(names)}


__all__ = [
    "MAX_DETAILS_PER_REASON",
    "OTHER_DETAILS",
    "Flags",
    "detail_key",
    "drops_per_image",
    "health_metrics",
    "sample_flags",
]
