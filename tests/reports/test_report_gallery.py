"""The gallery's data: counts that agree with the metrics, spans, geometry, thumbnails."""

import base64
import io
import json
import re

import pytest
from PIL import Image

from coordeval.metrics.score import score_run
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.html.details import TEXT_LIMIT
from coordeval.reports.html.gallery import CHUNK_IMAGES, build_gallery
from coordeval.reports.html.images import Wanted, image_roots, thumbnails
from coordeval.reports.html.report import build_report
from coordeval.runs import open_run

CAT = {"desc": "cat", "bbox_2d": [0, 0, 500, 500]}


def details(shown, position=0):
    chunks = list(build_gallery([shown]).chunks(0))
    return chunks[position // CHUNK_IMAGES][position % CHUNK_IMAGES]


def embedded(html, name):
    """One of the JSON elements of a page."""
    found = re.search(
        f'<script type="application/json" id="data-{name}">(.*?)</script>', html, re.DOTALL
    )
    return json.loads(found.group(1))


def test_the_index_adds_up_to_the_metrics(show, line, rec, text):
    """Right, wrong, missed and dropped over all images are the run's own totals."""
    answer = text(rec("cat", 0, 0, 500, 500), rec("dog", 1, 1, 9, 9), rec("cat", 3))
    lines = [line(answer, [CAT, CAT], id=str(number)) for number in range(3)]
    lines.append(line("", [CAT], id="failed", error="gone"))
    shown = show(lines)
    (run,) = build_gallery([shown]).index()["runs"]
    metrics = shown.result.metrics
    assert sum(run["right"]) == metrics["f1/0.50/tp"]
    assert sum(run["wrong"]) == metrics["f1/0.50/fp"]
    assert sum(run["missed"]) == metrics["f1/0.50/fn"]
    assert sum(run["dropped"]) == metrics["parse/dropped_invalid"]
    assert run["failed"] == [0, 0, 0, 1]


def test_bits_name_reasons_issues_and_sizes(show, line, rec, text):
    """An image's bits are the reasons, issues and object sizes that it has."""
    small = {"desc": "dog", "bbox_2d": [0, 0, 10, 10]}
    shown = show([line("well: " + text(rec("cat", 3)), [CAT, small])])
    index = build_gallery([shown]).index()
    (run,) = index["runs"]

    def names(bits, all_names):
        return {name for place, name in enumerate(all_names) if bits >> place & 1}

    assert names(run["reasons"][0], index["reasons"]) == {"wrong_arity"}
    assert names(run["issues"][0], index["issues"]) == {"text_before"}
    assert names(index["object_sizes"][0], index["sizes"]) == {"small", "large"}
    assert {index["class_names"][code] for code in index["classes"][0]} == {"cat", "dog"}


def test_spans_are_the_records(show, line, rec, text):
    """Start and end cut each record out of the text."""
    records = [rec("cat", 0, 0, 500, 500), rec("第九", 1), rec("dog", 5, 5, 4, 4)]
    answer = text(*records)
    found = details(show([line(answer, [CAT])]))
    cut = [answer[s:e] for s, e in zip(found["r"]["s"], found["r"]["e"], strict=True)]
    assert cut == records
    assert found["r"]["v"] == "rdd"
    assert found["r"]["d"]["1"][:2] == ["wrong_arity", "too_few"]


def test_dropped_boxes_with_readable_coordinates_can_be_drawn(show, line, rec, text):
    """An upside-down box keeps its pixels; one without coordinates has none."""
    found = details(show([line(text(rec("cat", 500, 500, 100, 100), rec("cat", 1)), [CAT])]))
    assert found["r"]["g"] == [[500.0, 500.0, 100.0, 100.0], None]


def test_absurd_coordinates_are_not_drawn(show, line):
    """A coordinate of forty digits has no place in a picture."""
    digits = "9" * 40
    bad = f'{{"objects": [{{"desc": "cat", "bbox_2d": [<|coord_{digits}|>, <|coord_1|>, <|coord_2|>, <|coord_3|>]}}]}}'
    found = details(show([line(bad, [CAT])]))
    assert found["r"]["g"] == [None]


def test_ground_truth_that_is_not_scored_is_still_shown(show, line, text):
    """Lines and objects without area stand among the ground truth, marked as unscored."""
    gt = [CAT, {"desc": "wire", "line": [0, 0, 9, 9]}, {"desc": "dot", "bbox_2d": [5, 5, 5, 5]}]
    found = details(show([line(text(), gt)]))
    assert found["g"]["v"] == "fuu"
    assert found["g"]["k"] == "blb"
    assert [found["n"][name] for name in found["g"]["n"]] == ["cat", "wire", "dot"]


def test_a_failed_sample_keeps_its_text_and_error(show, line):
    """What an engine said before it failed is shown, though it is not scored."""
    found = details(show([line("half an ans", [CAT], error="out of memory")]))
    assert (found["t"], found["err"], found["r"]["s"]) == ("half an ans", "out of memory", [])


def test_long_texts_are_cut_with_a_count(show, line):
    """A text beyond the limit is cut, and the page is told how much is missing."""
    found = details(show([line("x" * (TEXT_LIMIT + 7), [CAT])]))
    assert (len(found["t"]), found["cut"]) == (TEXT_LIMIT, 7)


def test_runs_with_other_images_line_up_by_id(run_dir, line, rec, text):
    """An image that a run lacks is empty there, never another one's."""
    good, none = text(rec("cat", 0, 0, 500, 500)), text()
    first = open_run(run_dir([line(good, [CAT], id="a"), line(good, [CAT], id="b")], "one"))
    second = open_run(run_dir([line(none, [CAT], id="c"), line(none, [CAT], id="b")], "two"))
    runs = shown_runs([(run, score_run(run)) for run in (first, second)])
    gallery = build_gallery(runs)
    index = gallery.index()
    assert index["ids"] == ["a", "b", "c"]
    assert [run["right"] for run in index["runs"]] == [[1, 1, None], [None, 0, 0]]
    assert next(gallery.chunks(1))[0] is None


def test_details_stand_in_the_order_of_the_page(run_dir, line, rec, text):
    """A run with its lines in another order says the same of each image, lone surrogates too."""
    lines = [
        line(
            text(rec(f"kind {n}", n, n, 500, 500), rec("cat", 3)) + ("\ud83d" if n == 7 else ""),
            [CAT, {"desc": "wire", "line": [0, 0, 5, n]}],
            id=f"{n}",
        )
        for n in range(CHUNK_IMAGES + 30)
    ]
    mixed = [*lines[90:], *lines[:90][::-1]]
    runs = [open_run(run_dir(part, name)) for part, name in ((lines, "one"), (mixed, "two"))]
    gallery = build_gallery(shown_runs([(run, score_run(run)) for run in runs]))
    one, two = (list(gallery.chunks(run)) for run in range(2))
    assert [len(chunk) for chunk in one] == [CHUNK_IMAGES, 30]
    assert two == json.loads(json.dumps(one))
    assert one[0][7]["n"] == ["kind 7", "cat", "wire"]


def picture(path, size=(400, 200)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)
    return path


def wanted(tmp_path, *names):
    return [
        Wanted(position=place, image=name, width=400, height=200, roots=[tmp_path])
        for place, name in enumerate(names)
    ]


def test_thumbnails_are_small_jpegs_up_to_the_cap(tmp_path):
    """The first images are embedded; missing, unnamed and further ones are counted apart."""
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    found = thumbnails(wanted(tmp_path, "a.png", "gone.png", None, "b.png", "c.png"), 2)
    assert sorted(found.uris) == [0, 3]
    assert (list(found.missing), found.unnamed, found.beyond_cap) == ([1], 1, 1)
    head, data = found.uris[0].split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (320, 160)


def test_images_outside_their_root_are_never_embedded(tmp_path):
    """A path that leaves the image root counts as missing."""
    picture(tmp_path / "secret.png")
    (tmp_path / "root").mkdir()
    item = Wanted(position=0, image="../secret.png", width=4, height=2, roots=[tmp_path / "root"])
    found = thumbnails([item], 5)
    assert not found.uris
    assert "outside" in found.missing[0]


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "http://host/x.png", "\ud83d"])
def test_names_that_no_file_can_have_are_missing(tmp_path, name):
    """A hostile name is a missing image, not a crash."""
    assert list(thumbnails(wanted(tmp_path, name), 1).missing) == [0]


def test_proportions_other_than_the_lines_are_counted(tmp_path):
    """A file that cannot be the image of its line is counted."""
    picture(tmp_path / "a.png", (200, 400))
    assert thumbnails(wanted(tmp_path, "a.png"), 1).misfits == 1


def test_image_roots_are_the_runs_own_or_the_given_one(run_dir, line, tmp_path):
    """The run's image root, then its dataset's folder; --image-root replaces all."""
    (tmp_path / "data").mkdir()
    (tmp_path / "pics").mkdir()
    run = open_run(
        run_dir(
            [line()],
            image_root=str(tmp_path / "pics"),
            dataset={"path": str(tmp_path / "data" / "x.jsonl")},
        )
    )
    assert image_roots(run, None)[:2] == [tmp_path / "pics", tmp_path / "data"]
    assert image_roots(run, tmp_path) == [tmp_path]


@pytest.mark.parametrize("root", ["x" * 5000, "a\0b", 7, None, ["x"]])
def test_a_nonsensical_image_root_is_passed_over(run_dir, line, root):
    """Whatever a foreign run.json says, the rollouts' own folder remains."""
    run = open_run(run_dir([line()], image_root=root, dataset=root))
    assert run.path in image_roots(run, None)


def test_the_page_counts_its_pictures(run_dir, line, rec, text):
    """How many pictures there are, at most, and which are not there, stands on the page."""
    lines = [line(text(), [CAT], id=name, image=f"{name}.png") for name in "abcd"]
    folder = run_dir(lines)
    for name in "abc":
        picture(folder / f"{name}.png", (500, 500))
    run = open_run(folder)
    report = build_report(shown_runs([(run, score_run(run))]), max_thumbnails=2)
    assert "2 of 4 images are embedded as thumbnails (at most 2" in report.html
    assert set(embedded(report.html, "thumbnails")) == {"0", "1"}
    everything = build_report(shown_runs([(run, score_run(run))]), max_thumbnails=9)
    assert "1 image file could not be read" in everything.html
    assert embedded(everything.html, "index")["missing"] == [3]
