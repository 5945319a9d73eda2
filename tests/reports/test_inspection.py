"""The inspection of one rollout: every record once, verdicts, loops, misses."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from coordeval.metrics.score import score_run
from coordeval.parsers import DIALECTS
from coordeval.reports.inspection import inspect_image, render_inspection
from coordeval.reports.terminal import score_report
from coordeval.reports.worst import render_worst, worst_rows
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def result():
    return score_run(open_run(FIXTURES / "runs" / "ckpt-2400"))


def shown(renderable, width=110):
    console = Console(width=width, record=True, file=io.StringIO(), markup=False, emoji=False)
    console.print(renderable)
    return console.export_text()


def test_every_rollout_can_be_inspected_and_adds_up(result):
    """Records carry verdicts that reconcile with the counts; kept text stands at its span."""
    for entry in result.columns.images:
        inspection = inspect_image(result, entry.id)
        assert len(inspection.records) == entry.num_found
        assert sum(r.verdict != "dropped" for r in inspection.records) == entry.num_valid
        for record in inspection.records:
            assert entry.text[record.start] == "{"
            assert (record.reason is None) == (record.verdict != "dropped")
        assert shown(render_inspection(inspection))


def test_a_loop_is_folded_and_counted(result):
    """Copies after the first are one line with their number and the tokens they cost."""
    loop = result.loops[0]
    image_id = result.columns.images[loop.image].id
    text = shown(render_inspection(inspect_image(result, image_id)))
    assert f"x {loop.repeats} in all" in text
    assert f"from token {loop.onset_token}: {loop.wasted_tokens} tokens" in text


def test_an_unknown_id_is_none(result):
    """No such rollout is no inspection."""
    assert inspect_image(result, "absent") is None


def test_full_tokens_are_verbatim(result):
    """Without shortening the text stands as it was written."""
    entry = next(e for e in result.columns.images if e.conforming and e.num_found)
    text = shown(render_inspection(inspect_image(result, entry.id), shorten=False), width=400)
    first = inspect_image(result, entry.id).records[0]
    assert entry.text[first.start : first.end] in text


@pytest.mark.parametrize("width", [40, 88, 200])
def test_reports_fit_any_width(result, width):
    """No line of the report is wider than the console."""
    text = shown(score_report(result, name="runs/x", meta={}), width)
    text += shown(render_worst(worst_rows(result.per_image, 5), total=64), width)
    assert all(len(line) <= width for line in text.splitlines())


def test_the_worst_come_first(result):
    """Rows are ordered by failures, and the counts agree with the score's own list."""
    rows = worst_rows(result.per_image, 10)
    assert [row["failures"] for row in rows] == [
        image.failures for image in result.worst_images(10)
    ]


def test_a_map_whose_numbers_fall_is_shown_once_in_the_order_of_its_text(tmp_path):
    """Its records are kept by their numbers; every one is shown where it was written."""
    names = ["three", "two", "one"]
    entries = [
        f'"object_{3 - place}": {{"desc": "{name}", "bbox_2d": [<|coord_{place}|>, <|coord_2|>, '
        "<|coord_300|>, <|coord_400|>]}"
        for place, name in enumerate(names)
    ]
    line = {"id": "a", "width": 90, "height": 90, "gt": [], "text": "{" + ", ".join(entries) + "}"}
    (tmp_path / "texts.jsonl").write_text(json.dumps(line) + "\n")
    result = score_run(open_run(tmp_path / "texts.jsonl"), dialect=DIALECTS["object-map-bare"])
    inspection = inspect_image(result, "a")
    text = shown(render_inspection(inspection), width=200)
    places = [text.index(f'"{name}"') for name in names]
    assert places == sorted(places)
    assert all(text.count(f'"{name}"') == 1 for name in names)
