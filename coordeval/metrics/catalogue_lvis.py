"""Catalogue entries of federated AP, and of names that were matched by more than being equal."""

from __future__ import annotations

from coordeval.metrics.catalogue_info import MetricInfo
from coordeval.metrics.catalogue_info import count_entry as _count
from coordeval.metrics.catalogue_info import rate_entry as _rate

_MEANINGS = {
    "AP": "mean AP over IoU .50:.95, over classes with ground truth",
    "AP50": "AP at IoU .50",
    "AP75": "AP at IoU .75",
    "APs": "AP of small objects (< 32 x 32 px)",
    "APm": "AP of medium objects",
    "APl": "AP of large objects (> 96 x 96 px)",
    "APr": "AP of rare classes",
    "APc": "AP of common classes",
    "APf": "AP of frequent classes",
    "AR@300": "AR with 300 detections per image",
    "ARs@300": "AR of small objects",
    "ARm@300": "AR of medium objects",
    "ARl@300": "AR of large objects",
}

LVIS_ENTRIES: tuple[MetricInfo, ...] = (
    *(
        _rate(f"lvis/{leaf}", f"{meaning}; boxes, federated as in LVIS", "higher", *aliases)
        for leaf, meaning in _MEANINGS.items()
        for aliases in [(leaf.replace("@", ""),) if "@" in leaf else ()]
    ),
    _count("lvis/images", "images that say which classes they were judged for", "images", "none"),
    _count(
        "lvis/unjudged",
        "detections of classes that their image was not judged for, left out of lvis/*",
        "objects",
        "none",
    ),
    _count(
        "lvis/over_limit",
        "detections beyond the 300 best of their image, left out of lvis/*",
        "objects",
        "lower",
    ),
)
NAME_ENTRIES: tuple[MetricInfo, ...] = (
    _count("names/exact", "predictions named as their class is", "objects", "none"),
    _count("names/synonym", "predictions whose class was found by synonyms", "objects", "none"),
    _count(
        "names/embedding",
        "predictions whose class was found by sentence embeddings",
        "objects",
        "none",
    ),
)

__all__ = ["LVIS_ENTRIES", "NAME_ENTRIES"]
