"""Issues that only other models' dialects have are shown, stored and resampled like all others."""

import json

import pytest

from coordeval.metrics.catalogue import describe
from coordeval.metrics.score import score_run
from coordeval.parsers.dialects import dialect_named
from coordeval.reports.charts import issues
from coordeval.reports.charts.shown import shown_runs
from coordeval.reports.html.gallery import build_gallery
from coordeval.runs import open_run
from coordeval.stats.baseline import make_baseline
from coordeval.stats.gates_intervals import Intervals

KEY = "parse/issue/single_quotes"
TEXT = '[{"bbox_2d": [125, 250, 500, 750], "label": "cat"}]'


@pytest.fixture
def scored(tmp_path):
    """A run of 12 texts, so many of them in Python's quotes, and its score."""

    def make(quoted):
        path = tmp_path / f"{quoted}.jsonl"
        lines = [
            {
                "id": str(number),
                "width": 64,
                "height": 64,
                "gt": [{"desc": "cat", "bbox_2d": [8, 16, 32, 48]}],
                "text": TEXT.replace('"', "'") if number < quoted else TEXT,
            }
            for number in range(12)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        run = open_run(path)
        return run, score_run(run, dialect=dialect_named("qwen3vl"))

    return make


def test_they_stand_in_table_figure_gallery_and_catalogue(scored):
    """What the metrics count is in per_image, among the bars, and a filter of the gallery."""
    run, result = scored(8)
    assert result.metrics[KEY] == result.per_image["issue_single_quotes"].sum() == 8
    assert "Python" in describe(KEY).meaning
    (shown,) = shown_runs([(run, result)])
    assert "single_quotes in 8 texts" in issues.figure([shown]).alt
    index = build_gallery([shown]).index()
    bit = 1 << index["issues"].index("single_quotes")
    assert sum(bool(bits & bit) for bits in index["runs"][0]["issues"]) == 8


def test_a_run_without_them_has_no_column_for_them(scored):
    """Tables of texts that cannot have the issue stay as they are, and the page is made."""
    run, result = scored(0)
    assert KEY not in result.metrics
    assert "issue_single_quotes" not in result.per_image
    assert build_gallery(shown_runs([(run, result)])).index()["runs"][0]["issues"] == [0] * 12


@pytest.mark.parametrize(("before", "now"), [(0, 8), (8, 2)])
def test_gates_have_intervals_for_them(scored, before, now):
    """Also where the baseline was made of texts without the issue."""
    baseline = make_baseline(scored(before)[1], name="b")
    low, high = Intervals(scored(now)[1], baseline).of_change(KEY)
    assert low < now - before < high
