"""IoU edges against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from coordeval.coords import FRAMES
from coordeval.metrics import iou as iou_module
from coordeval.metrics.geometry import polygon_area, shapes_from_values, whole_pixels_clamped
from coordeval.metrics.iou import Shapes, box_edges, shape_edges


def shapes(rows):
    """Shapes from (image, x1, y1, x2, y2), sorted by image."""
    rows = sorted(rows, key=lambda row: row[0])
    return Shapes(
        image=np.array([row[0] for row in rows], dtype=np.int64),
        boxes=np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 4),
        polygons={},
    )


boxes = st.tuples(
    st.integers(0, 3),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(1, 20),
).map(lambda v: (v[0], v[1], v[2], v[1] + v[3], v[2] + v[4]))


@settings(max_examples=80, deadline=None)
@given(st.lists(boxes, max_size=12), st.lists(boxes, max_size=12), st.booleans())
def test_edges_equal_a_double_loop(pred_rows, gt_rows, own_area):
    """All same-image pairs above the threshold, with pycocotools' values, and no others."""
    pred, gt = shapes(pred_rows), shapes(gt_rows)
    edges = box_edges(pred, gt, minimum=0.25, over_own_area=own_area)
    got = {(p, g): v for p, g, v in zip(edges.pred, edges.gt, edges.value, strict=True)}
    want = {}
    for p, (image_p, box_p) in enumerate(zip(pred.image, pred.boxes, strict=True)):
        for g, (image_g, box_g) in enumerate(zip(gt.image, gt.boxes, strict=True)):
            if image_p == image_g:
                xywh = [[*b[:2], *(b[2:] - b[:2])] for b in (box_p, box_g)]
                value = mask_api.iou([xywh[0]], [xywh[1]], [int(own_area)])[0, 0]
                if value >= 0.25:
                    want[(p, g)] = value
    assert got.keys() == want.keys()
    for pair, value in want.items():
        assert got[pair] == pytest.approx(value, abs=1e-12)


def test_chunks_give_the_same_edges(monkeypatch):
    """The size of a chunk changes nothing, even when one prediction alone exceeds it."""
    rng = np.random.default_rng(0)
    rows = [
        (int(i), *(int(v) for v in (x, y, x + 9, y + 9))) for i, x, y in rng.integers(0, 8, (90, 3))
    ]
    pred, gt = shapes(rows[:60]), shapes(rows[60:])
    whole = box_edges(pred, gt, minimum=0.1)
    monkeypatch.setattr(iou_module, "PAIRS_PER_CHUNK", 2)
    parts = box_edges(pred, gt, minimum=0.1)
    assert whole.pred.tolist() == parts.pred.tolist()
    assert whole.gt.tolist() == parts.gt.tolist()
    assert whole.value.tolist() == parts.value.tolist()


def test_polygons_meet_by_mask_and_boxes_by_hull():
    """Two triangles of one square share no pixels; a triangle and its own hull are equal."""
    lower, upper = [0.0, 0, 40, 40, 0, 40], [0.0, 0, 40, 0, 40, 40]
    hull = [0.0, 0, 40, 40]
    pred = Shapes(image=np.array([0]), boxes=np.array([hull]), polygons={0: lower})
    gt = Shapes(
        image=np.array([0, 0, 0]), boxes=np.array([hull] * 3), polygons={0: upper, 1: lower}
    )
    edges = shape_edges(pred, gt, np.array([[64, 64]]), minimum=0.3)
    assert dict(zip(edges.gt.tolist(), edges.value.tolist(), strict=True)) == {1: 1.0, 2: 1.0}


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_pixels_are_those_of_the_frame_to_the_last_bit(name):
    """Vectorised conversion equals CoordFrame.to_pixels exactly, for boxes and polygons."""
    frame = FRAMES[name]
    values = [(1, 2, 999, 998), (333, 7, 500, 501, 17, 400), (0, 0, 1, 1)]
    sizes = np.array([[640, 427], [33, 1], [500, 375]])
    image = np.array([0, 0, 1])
    got = shapes_from_values(image, np.array([False, True, False]), values, sizes, frame)
    for row in (0, 2):
        want = frame.to_pixels(values[row], *sizes[image[row]].tolist())
        assert got.boxes[row].tolist() == want.tolist()
    assert got.polygons[1] == frame.to_pixels(values[1], 640, 427).tolist()


def test_polygon_area_is_the_shoelace_area():
    """A triangle has half its hull, in either direction."""
    assert polygon_area([0, 0, 10, 0, 0, 10]) == 50.0
    assert polygon_area([0, 0, 0, 10, 10, 0]) == 50.0
    assert polygon_area([0, 0, 5, 5, 10, 10]) == 0.0


def test_whole_pixels_are_clamped_to_the_image():
    """Boxes are rounded and stay between the first and the last pixel."""
    got = whole_pixels_clamped(shapes([(0, -3.2, 1.4, 70.0, 20.6)]), np.array([[64, 48]]))
    assert got.boxes.tolist() == [[0.0, 1.0, 63.0, 21.0]]
