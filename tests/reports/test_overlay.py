"""Overlays: what is drawn, where, and that no text breaks out of them."""

import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from coordeval.errors import ConfigError, DataError
from coordeval.metrics.score import score_run
from coordeval.reports.overlay import overlay_image, write_overlay
from coordeval.reports.overlay_png import draw_png, rgb, text_on
from coordeval.reports.overlay_scene import MAX_LONG_SIDE, MIN_LONG_SIDE
from coordeval.reports.overlay_styles import DRAW_ORDER, STYLES
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
SVG = "{http://www.w3.org/2000/svg}"


def tokens(*bins):
    return "[" + ", ".join(f"<|coord_{k}|>" for k in bins) + "]"


def record(desc, *bins, key="bbox_2d"):
    return f'{{"desc": {json.dumps(desc)}, "{key}": {tokens(*bins)}}}'


def scored(tmp_path, *records, gt=(), width=1000, height=1000, **changes):
    objects = [{"desc": desc, "bbox_2d": list(box)} for desc, box in gt]
    text = '{"objects": [' + ", ".join(records) + "]}"
    line = {
        "id": "a",
        "image": "a.png",
        "width": width,
        "height": height,
        "gt": objects,
        "text": text,
    }
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(line | changes) + "\n")
    return score_run(open_run(path))


@pytest.fixture
def everything(tmp_path):
    return scored(
        tmp_path,
        record("cat", 0, 0, 400, 400),
        record("cat", 0, 0, 400, 400),
        record("cat", 0, 0, 400, 400),
        record("dog", 500, 500, 600, 600),
        record("kite", 100, 700, 200, 900, key="bbox_3d"),
        gt=[("cat", (0, 0, 400, 400)), ("dog", (700, 100, 900, 300))],
    )


def test_every_fate_has_its_category_and_place(everything):
    """Right, duplicate (counted), wrong, dropped, found and missed ground truth."""
    scene, _ = overlay_image(everything, "a")
    shapes = {shape.category: shape for shape in scene.shapes}
    assert set(shapes) == {"right", "duplicate", "wrong", "dropped", "gt", "missed"}
    assert shapes["duplicate"].count == 2
    assert shapes["missed"].hull == pytest.approx((700, 100, 900, 300))
    assert shapes["wrong"].hull == pytest.approx((500.0, 500.0, 600.0, 600.0), abs=1.0)
    assert "unexpected_keys" in shapes["dropped"].words
    assert {entry.category for entry in scene.legend} == set(shapes)


@pytest.mark.parametrize("hidden", sorted(STYLES))
def test_hidden_categories_are_neither_drawn_nor_in_the_legend(everything, hidden):
    """Each toggle takes away exactly its category."""
    whole = {s.category for s in overlay_image(everything, "a")[0].shapes}
    scene, _ = overlay_image(everything, "a", hidden=frozenset({hidden}))
    assert {s.category for s in scene.shapes} == whole - {hidden}
    assert {e.category for e in scene.legend} == whole - {hidden}


def test_lines_have_their_colour_in_the_picture(everything):
    """On the border of a wrong box stands its colour, off it the canvas."""
    scene, _ = overlay_image(everything, "a", labels=False)
    page = draw_png(scene, None)
    assert page.size == (scene.width, scene.total_height)
    x1, _y1, x2, y2 = next(s for s in scene.shapes if s.category == "wrong").hull
    found = page.getpixel((round((x1 + x2) / 2), round(y2)))
    assert sum(abs(a - b) for a, b in zip(found, rgb(STYLES["wrong"].colour), strict=True)) < 60
    assert page.getpixel((990, 990)) == (222, 223, 226)


@pytest.mark.parametrize(
    ("width", "height"), [(64, 64), (1, 1), (3, 900), (640, 480), (5000, 100), (4000, 3000)]
)
def test_sizes_are_legible_and_limited(tmp_path, width, height):
    """Small images are enlarged by a whole factor, large ones reduced, thin ones not exploded."""
    result = scored(tmp_path, record("cat", 0, 0, 999, 999), width=width, height=height)
    scene, _ = overlay_image(result, "a")
    longer = max(scene.width, scene.height)
    assert longer <= MAX_LONG_SIDE
    if max(width, height) < MIN_LONG_SIDE:
        assert scene.scale == int(scene.scale)
        assert longer >= MIN_LONG_SIDE or 2 * longer > MAX_LONG_SIDE
    draw_png(scene, None)


def test_labels_stay_on_the_picture_and_apart(tmp_path):
    """Ten objects in a corner: all labels lie inside the picture and none covers another."""
    records = [record(f"thing {n}", 900 + 9 * n, 5, 999, 100 + n) for n in range(10)]
    scene, _ = overlay_image(scored(tmp_path, *records, gt=[("x", (0, 0, 1, 1))]), "a")
    assert len(scene.labels) == 11
    for label in scene.labels:
        assert 0 <= label.x <= scene.width - label.width + 1e-6
        assert 0 <= label.y <= scene.height - label.height + 1e-6
    first, second = scene.labels[:2]
    assert first.y + first.height <= second.y or second.y + second.height <= first.y


def test_boxes_far_outside_are_clipped_not_followed(tmp_path):
    """A model may write any pixel; drawing takes no longer for it."""
    text = '{"objects": [{"desc": "cat", "bbox_2d": [0, 0, 999999999999, 999999999999]}]}'
    path = tmp_path / "d.jsonl"
    path.write_text(
        json.dumps({"id": "a", "width": 10, "height": 10, "gt": [], "text": text}) + "\n"
    )
    from dataclasses import replace

    run = replace(
        open_run(path), meta={"dialect": {"name": "coordjson-pixels", "coordinates": "pixel_int"}}
    )
    scene, _ = overlay_image(score_run(run), "a")
    assert all(abs(v) <= 5 * scene.width for s in scene.shapes for p in s.points for v in p)
    draw_png(scene, None)


def test_a_missing_image_is_a_note_on_a_plain_canvas(everything, tmp_path):
    """No image root, no such file, a path outside the root: each is said in the picture."""
    for root in (None, tmp_path):
        scene, picture = overlay_image(everything, "a", image_root=root)
        assert picture is None
        assert any("no image" in note for note, _ in scene.notes)


def test_a_path_outside_the_root_is_not_opened(tmp_path):
    """The picture is not read from elsewhere, even where the file exists."""
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    root = tmp_path / "root"
    root.mkdir()
    result = scored(tmp_path, record("cat", 1, 1, 9, 9), image="../secret.png")
    _, picture = overlay_image(result, "a", image_root=root)
    assert picture is None


def test_the_image_is_shown_and_other_sizes_are_said(tmp_path):
    """Pixels of the image are in the picture; a size that differs from the run's is noted."""
    Image.new("RGB", (20, 20), (10, 200, 30)).save(tmp_path / "a.png")
    result = scored(tmp_path, gt=[("cat", (0, 0, 2, 2))], width=40, height=40)
    scene, picture = overlay_image(result, "a", image_root=tmp_path)
    assert any("20 x 20" in note for note, _ in scene.notes)
    page = draw_png(scene, picture)
    assert page.getpixel((scene.width - 5, scene.height - 5)) == (10, 200, 30)


NAUGHTY = [
    "</title><script>alert(1)</script>",
    '" onload="x',
    "\x00\x1b[31m",
    "\u202egnp",
    "]]>&amp;",
    "\ufffe\uffff",
    "第九 🐱",
    "\ud800",
]


@pytest.mark.parametrize("name", NAUGHTY)
def test_svg_is_well_formed_whatever_a_model_wrote(tmp_path, name):
    """Names, ids and file names end up as text: no element or attribute of theirs appears."""
    result = scored(
        tmp_path,
        record(name, 1, 1, 900, 900),
        gt=[(name, (5, 5, 50, 50))],
        id=name or "x",
        image=name,
    )
    scene, picture = overlay_image(result, name)
    out = tmp_path / "x.svg"
    write_overlay(scene, picture, out)
    root = ET.parse(out).getroot()
    allowed = {
        "svg",
        "title",
        "rect",
        "clipPath",
        "g",
        "polygon",
        "polyline",
        "text",
        "line",
        "image",
    }
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in allowed
        assert not any(key.startswith("on") for key in element.attrib)
    write_overlay(scene, picture, tmp_path / "x.png")


def test_svg_holds_vectors_and_its_picture(tmp_path):
    """Boxes are polygons with tooltips, and the image is embedded."""
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "a.png")
    result = scored(
        tmp_path, record("cat", 0, 0, 500, 500), gt=[("cat", (0, 0, 32, 32))], width=64, height=64
    )
    scene, picture = overlay_image(result, "a", image_root=tmp_path)
    write_overlay(scene, picture, tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert len(root.findall(f".//{SVG}polygon")) == 2 * len(scene.shapes)
    assert root.find(f"{SVG}image").get("href").startswith("data:image/png;base64,")
    assert "right: cat" in {title.text for title in root.iter(f"{SVG}title")}


def test_polygons_keep_their_corners():
    """A polygon of the fixtures is drawn with all its corners, not as its box."""
    result = score_run(open_run(FIXTURES / "dumps" / "polygons.jsonl"))
    scene, _ = overlay_image(result, "scene-0000")
    assert max(len(shape.points) for shape in scene.shapes) > 8


def test_unknown_ids_and_suffixes_are_refused(everything, tmp_path):
    """The error names a near id; only .png and .svg are written."""
    with pytest.raises(ConfigError, match="no sample"):
        overlay_image(everything, "zzz")
    scene, picture = overlay_image(everything, "a")
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        write_overlay(scene, picture, tmp_path / "x.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_overlay(scene, picture, tmp_path / "file" / "x.png")


def test_styles_differ_in_more_than_colour():
    """Categories that may coincide differ by dash; labels are legible on every colour."""
    assert set(DRAW_ORDER) == set(STYLES)
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)
    assert STYLES["right"].dash != STYLES["gt"].dash
    assert STYLES["wrong"].dash != STYLES["duplicate"].dash != STYLES["dropped"].dash
    for style in STYLES.values():
        assert text_on(rgb(style.colour)) in {(0, 0, 0), (255, 255, 255)}


def test_a_thousand_random_objects_are_drawn(tmp_path):
    """Crowded images get a limited number of labels, and say so."""
    draw = random.Random(0)
    records = []
    for n in range(1000):
        x, y = draw.randrange(900), draw.randrange(900)
        records.append(
            record(f"t{n % 7}", x, y, x + 1 + draw.randrange(90), y + 1 + draw.randrange(90))
        )
    scene, _ = overlay_image(scored(tmp_path, *records), "a")
    assert len(scene.labels) == 80
    assert any("more objects" in note for note, _ in scene.notes)
    draw_png(scene, None)
