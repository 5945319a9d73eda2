"""Label Studio: tasks with ground truth as annotations and the model's output as predictions.

Coordinates are percent of the image's sides. `label_config.xml` is the labelling interface that
the tasks refer to. Format: https://labelstud.io/guide/predictions and /guide/task_format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from coordeval.exchange.export_context import label_of, xml_text
from coordeval.exchange.scored_objects import scored_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.exchange.export_context import ExportContext, Files
    from coordeval.exchange.scored_objects import ScoredImage, ScoredObject
    from coordeval.metrics.result import ScoreResult

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of a folder that it was given as local storage."""


def labelstudio_files(result: ScoreResult, context: ExportContext) -> tuple[Files, list[str]]:
    """`tasks.json` and `label_config.xml`; remarks count what percent regions cannot hold."""
    tasks = []
    labels: dict[str, None] = dict.fromkeys(result.columns.universe.labels)
    left_out = 0
    has_polygons = False
    for image in scored_images(result):
        drawn = [obj for obj in (*image.gt, *image.predictions) if _can_draw(obj)]
        left_out += len(image.gt) + len(image.records) - len(drawn)
        has_polygons |= any(obj.points_px is not None for obj in drawn)
        labels |= dict.fromkeys(label_of(obj) for obj in drawn)
        tasks.append(_task(image, context))
    remarks = []
    if left_out:
        remarks.append(f"left out: {left_out} dropped records, lines and objects without a place")
    if context.image_prefix is None:
        remarks.append(
            f"images are addressed as {LOCAL_FILES}PATH (local storage); "
            "--image-prefix sets another address"
        )
    config = _config(labels, polygons=has_polygons)
    return {"tasks.json": tasks, "label_config.xml": config}, remarks


def _can_draw(obj: ScoredObject) -> bool:
    return obj.box_px is not None and obj.kind != "line"


def _task(image: ScoredImage, context: ExportContext) -> dict[str, Any]:
    entry = image.entry
    prefix = LOCAL_FILES if context.image_prefix is None else context.image_prefix
    name = (entry.image or entry.id).encode("utf-8", "replace").decode()
    predictions = [obj for obj in image.predictions if _can_draw(obj)]
    scores = [obj.score for obj in predictions if obj.score is not None]
    prediction: dict[str, Any] = {
        "model_version": context.name,
        "result": _regions(predictions, image, "pred"),
    }
    if scores:
        prediction["score"] = sum(scores) / len(scores)
    return {
        "id": image.image_id,
        "data": {"image": prefix + quote(name), "run_id": entry.id},
        "annotations": [
            {"ground_truth": True, "result": _regions(image.gt, image, "gt")},
        ],
        "predictions": [prediction],
    }


def _regions(
    objects: Sequence[ScoredObject], image: ScoredImage, prefix: str
) -> list[dict[str, Any]]:
    width, height = image.entry.width, image.entry.height
    out = []
    for obj in objects:
        if not _can_draw(obj):
            continue
        is_polygon = obj.points_px is not None
        kind = "polygonlabels" if is_polygon else "rectanglelabels"
        region: dict[str, Any] = {
            "id": f"{prefix}-{image.image_id}-{obj.index}",
            "type": kind,
            "from_name": "polygon" if is_polygon else "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": _value(obj, width, height) | {kind: [label_of(obj)]},
            "meta": {"text": [obj.verdict if obj.copy is None else f"{obj.verdict}, {obj.copy}"]},
        }
        if obj.score is not None:
            region["score"] = obj.score
        out.append(region)
    return out


def _value(obj: ScoredObject, width: int, height: int) -> dict[str, Any]:
    if obj.points_px is not None:
        pairs = zip(obj.points_px[0::2], obj.points_px[1::2], strict=True)
        return {"points": [[100 * x / width, 100 * y / height] for x, y in pairs], "closed": True}
    assert obj.box_px is not None
    x1, y1, x2, y2 = obj.box_px
    return {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
    }


def _config(labels: Iterable[str], *, polygons: bool) -> str:
    entries = "".join(f"    <Label value={quoteattr(xml_text(label))}/>\n" for label in labels)
    parts = ['<View>\n  <Image name="image" value="$image"/>\n']
    parts.append(
        f'  <RectangleLabels name="label" toName="image">\n{entries}  </RectangleLabels>\n'
    )
    if polygons:
        parts.append(
            f'  <PolygonLabels name="polygon" toName="image">\n{entries}  </PolygonLabels>\n'
        )
    return "".join(parts) + "</View>\n"


__all__ = ["LOCAL_FILES", "labelstudio_files"]
