"""FiftyOne: the JSON layout of a dataset on disk, written without the package.

`metadata.json` and `samples.json`, as `fiftyone.types.FiftyOneDataset` reads them (without a
`version` key, so that FiftyOne infers the fields). Boxes are [x, y, width, height] relative to the
image; polygons are closed polylines. Load with
`fiftyone.Dataset.from_dir(DIR, fiftyone.types.FiftyOneDataset)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.counted import counted
from coordeval.exchange.export_context import label_of
from coordeval.exchange.scored_objects import scored_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.exchange.export_context import ExportContext, Files
    from coordeval.exchange.scored_objects import ScoredImage, ScoredObject
    from coordeval.metrics.result import ScoreResult


def fiftyone_files(result: ScoreResult, context: ExportContext) -> tuple[Files, list[str]]:
    """Both files; fields `ground_truth`, `predictions`, `dropped`, and `*_polygons` where needed.

    Images are not copied: `filepath` is absolute where the image root is known, else relative
    (give `rel_dir` when loading). Dropped records without readable coordinates are counted in the
    remarks.
    """
    samples = []
    without_place = unresolved = 0
    for image in scored_images(result):
        path = context.image_path(image.entry.image)
        unresolved += path is None
        without_place += sum(record.box_px is None for record in image.records)
        samples.append(_sample(image, str(path) if path is not None else _relative(image)))
    remarks = []
    if without_place:
        remarks.append(
            f"left out: {counted(without_place, 'dropped record')} without readable coordinates"
        )
    if unresolved and samples:
        remarks.append(
            f"{counted(unresolved, 'image path is', 'image paths are')} relative: load with "
            "rel_dir=FOLDER, or export with --image-root FOLDER"
        )
    metadata = {
        "name": context.name,
        "media_type": "image",
        "info": {"run": context.name, "classes": list(result.columns.universe.labels)},
    }
    return {"metadata.json": metadata, "samples.json": {"samples": samples}}, remarks


def _relative(image: ScoredImage) -> str:
    """A path below the dataset; one that would lead out of it is replaced by a name of its own."""
    given = (image.entry.image or "").replace("\\", "/")
    parts = [part for part in given.split("/") if part not in {"", "."}]
    if not parts or ".." in parts or given.startswith("/") or ":" in given or "\0" in given:
        return f"unresolved/{image.image_id}.png"
    return "/".join(parts)


def _sample(image: ScoredImage, filepath: str) -> dict[str, Any]:
    entry = image.entry
    dropped = [record for record in image.records if record.verdict == "dropped"]
    sample: dict[str, Any] = {
        "filepath": filepath,
        "tags": [],
        "metadata": {"_cls": "ImageMetadata", "width": entry.width, "height": entry.height},
        "_media_type": "image",
        "run_id": entry.id,
        "finish_reason": entry.finish_reason,
        "conforming": bool(entry.conforming),
        "text": entry.text,
    }
    for field, objects in (
        ("ground_truth", image.gt),
        ("predictions", image.predictions),
        ("dropped", dropped),
    ):
        placed = [obj for obj in objects if obj.box_px is not None]
        boxes = [obj for obj in placed if obj.points_px is None]
        sample[field] = {
            "_cls": "Detections",
            "detections": [_detection(obj, entry.width, entry.height) for obj in boxes],
        }
        if len(boxes) < len(placed):
            sample[f"{field}_polygons"] = _polylines(placed, entry.width, entry.height)
    return sample


def _detection(obj: ScoredObject, width: int, height: int) -> dict[str, Any]:
    assert obj.box_px is not None
    x1, y1, x2, y2 = obj.box_px
    return {
        "_cls": "Detection",
        **_common(obj),
        "bounding_box": [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
    }


def _polylines(objects: Sequence[ScoredObject], width: int, height: int) -> dict[str, Any]:
    return {
        "_cls": "Polylines",
        "polylines": [
            {
                "_cls": "Polyline",
                **_common(obj),
                "points": [
                    [
                        [x / width, y / height]
                        for x, y in zip(obj.points_px[0::2], obj.points_px[1::2], strict=True)
                    ]
                ],
                "closed": obj.kind == "poly",
                "filled": obj.kind == "poly",
            }
            for obj in objects
            if obj.points_px is not None
        ],
    }


def _common(obj: ScoredObject) -> dict[str, Any]:
    out: dict[str, Any] = {
        "tags": [],
        "label": label_of(obj),
        "record": obj.index,
        "verdict": obj.verdict,
    }
    if obj.role == "gt":
        out["iscrowd"] = int(obj.crowd)
    else:
        out |= {"confidence": obj.score, "desc": obj.desc, "reason": obj.reason, "copy": obj.copy}
    return {key: value for key, value in out.items() if value is not None}


__all__ = ["fiftyone_files"]
