"""Overlaps of all candidates with the ground truth, as F1 and as a COCO engine see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.attribution.labels import BACKGROUND_IOU, Nearest, nearest
from coordeval.metrics.coco import to_xywh
from coordeval.metrics.f1 import overlaps
from coordeval.metrics.iou import Edges, Shapes, box_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.attribution.candidates import Candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All pairs with IoU >= 0.1 of candidates (N) and ordinary objects.

    `crowd` (N) is the largest intersection / own area with a crowd region of the same class.
    """

    edges: Edges
    same_class: NDArray[np.bool_]
    near: Nearest
    crowd: NDArray[np.float64]


def f1_view(candidates: Candidates) -> View:
    """Boxes and polygons, as F1 matches them."""
    pred = candidates.pred
    found = overlaps(candidates.columns, pred, minimum=BACKGROUND_IOU, crowd="ignore")
    return View(
        edges=found.edges,
        same_class=found.same_class,
        near=nearest(found.edges, found.same_class, len(pred)),
        crowd=found.crowd_same,
    )


def coco_view(candidates: Candidates) -> View:
    """Boxes (hulls of polygons), with IoU float for float as pycocotools computes it."""
    pred, gt = candidates.pred, candidates.columns.gt
    ordinary, crowd = np.flatnonzero(~gt.crowd), np.flatnonzero(gt.crowd)
    edges = _coco_edges(pred.shapes, gt.shapes, ordinary, over_own_area=False)
    on_crowd = _coco_edges(pred.shapes, gt.shapes, crowd, over_own_area=True)
    same = pred.class_code[on_crowd.pred] == gt.class_code[on_crowd.gt]
    crowd_overlap = np.zeros(len(pred))
    np.maximum.at(crowd_overlap, on_crowd.pred[same], on_crowd.value[same])
    same_class = pred.class_code[edges.pred] == gt.class_code[edges.gt]
    return View(
        edges=edges,
        same_class=same_class,
        near=nearest(edges, same_class, len(pred)),
        crowd=crowd_overlap,
    )


def _coco_edges(pred: Shapes, gt: Shapes, rows: NDArray[np.int64], *, over_own_area: bool) -> Edges:
    part = Shapes(image=gt.image[rows], boxes=gt.boxes[rows], polygons={})
    found = box_edges(pred, part, minimum=0.99 * BACKGROUND_IOU, over_own_area=over_own_area)
    d, g = to_xywh(pred.boxes)[found.pred].T, to_xywh(part.boxes)[found.gt].T
    width = np.minimum(d[0] + d[2], g[0] + g[2]) - np.maximum(d[0], g[0])
    height = np.minimum(d[1] + d[3], g[1] + g[3]) - np.maximum(d[1], g[1])
    inter = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    own = d[2] * d[3]
    value = inter / (own if over_own_area else own + g[2] * g[3] - inter)
    keep = value >= BACKGROUND_IOU
    return Edges(pred=found.pred[keep], gt=rows[found.gt[keep]], value=value[keep])


__all__ = ["View", "coco_view", "f1_view"]
