"""Evaluation protocols by name: everything that defines the numbers, spelled out and stored.

`coordeval` is the default. The others follow published evaluators closely enough to compare
against them; where they need more than the run (a neural name matcher), the notes say so.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from coordeval.metrics.names.matching import NameMatching

COCO_THRESHOLDS: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way of turning objects into F1 numbers; the field comments are the docs table.

    name: what it is called; stored with the numbers.
    iou_thresholds: the thresholds of `f1/<iou>/...`; `f1/mean` needs .50:.95.
    matching: `optimal` (most pairs, then the largest IoU sum; per class) or `greedy_any_class`
        (pairs in the order of falling IoU whatever the class; the name is judged afterwards).
    name_rule: how class names are brought to one form.
    scope: `all` predictions; `annotated` ignores, `positive_only` removes, predictions of classes
        that the image's ground truth does not hold.
    drop_exact_repeats: exact repeats are removed before anything is counted.
    average: `micro` over all images, or `mean_of_classes_above_zero` (classes whose precision or
        recall is zero or undefined are left out).
    crowd: `ignore` (unmatched predictions on crowd regions are neither right nor wrong), or
        `ordinary` (a crowd region is one more object).
    empty_ratio: the value of precision and recall with denominator 0; None is null.
    boxes: `as_is`, or `whole_pixels_clamped` (those of both sides rounded to whole
        pixels and clamped to the image; areas are those of the boxes).
    frame: the coordinate frame that overrides the run's, or None.
    names: how names that equal no class find theirs (synonyms, embeddings); None: they do not.
    """

    name: str
    iou_thresholds: tuple[float, ...] = COCO_THRESHOLDS
    matching: Literal["optimal", "greedy_any_class"] = "optimal"
    name_rule: Literal["nfkc_casefold", "lower_punctuation"] = "nfkc_casefold"
    scope: Literal["all", "annotated", "positive_only"] = "all"
    drop_exact_repeats: bool = False
    average: Literal["micro", "mean_of_classes_above_zero"] = "micro"
    crowd: Literal["ignore", "ordinary"] = "ignore"
    empty_ratio: float | None = None
    boxes: Literal["as_is", "whole_pixels_clamped"] = "as_is"
    frame: str | None = None
    names: NameMatching | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields as plain data, as metrics.json stores them; `names` only where there are."""
        out = {field.name: getattr(self, field.name) for field in fields(self)}
        out["iou_thresholds"] = list(self.iou_thresholds)
        names = out.pop("names")
        return out if names is None else out | {"names": names.to_json()}


PROTOCOLS: dict[str, Protocol] = {
    "coordeval": Protocol(
        name="coordeval",
        note="Every prediction counts; unknown classes and repeats are wrong; nothing is repaired.",
    ),
    "coordexp": Protocol(
        name="coordexp",
        iou_thresholds=(0.3, 0.5),
        matching="greedy_any_class",
        name_rule="lower_punctuation",
        scope="annotated",
        crowd="ordinary",
        empty_ratio=1.0,
        boxes="whole_pixels_clamped",
        note=(
            "f1_loc/* counts matched boxes, f1/* asks for the same name as well. Names are "
            "compared exactly; the original also takes the class of the nearest sentence "
            "embedding (all-MiniLM-L6-v2, cosine from 0.6): add --semantic MODEL. Images without "
            "ground truth count here."
        ),
    ),
    "rex-omni": Protocol(
        name="rex-omni",
        scope="positive_only",
        drop_exact_repeats=True,
        average="mean_of_classes_above_zero",
        frame="unit-999",
        note="Forgiving: a class that is never found at all does not lower the mean.",
    ),
}
DEFAULT_PROTOCOL = "coordeval"


def protocol_named(name: str) -> Protocol:
    """The protocol of that name; ConfigError lists the known ones."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        known = ", ".join(PROTOCOLS)
        raise ConfigError(f"unknown protocol {name!r}: use one of {known}") from None


def protocol_table_markdown() -> str:
    """A Markdown table of every protocol: one row per field, one column per protocol."""
    rows = [protocol.to_json() for protocol in PROTOCOLS.values()]
    lines = ["| | " + " | ".join(f"`{name}`" for name in PROTOCOLS) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    lines.extend(
        f"| {field} | " + " | ".join(_cell(row[field]) for row in rows) + " |"
        for field in rows[0]
        if field != "name"
    )
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{item:.2f}" for item in value)
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


__all__ = [
    "COCO_THRESHOLDS",
    "DEFAULT_PROTOCOL",
    "PROTOCOLS",
    "Protocol",
    "protocol_named",
    "protocol_table_markdown",
]
