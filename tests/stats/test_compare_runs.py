"""`compare_runs`: verdicts on planted and absent differences, pairing, and what does not compare."""

from __future__ import annotations

import json
import random

import pytest
from comparing import answer, line, make_run, random_lines, record, write_run

from coordeval.errors import ConfigError, DataError, NotComparable, RunIncomplete
from coordeval.metrics.catalogue import describe
from coordeval.metrics.score import score_run
from coordeval.runs import open_run
from coordeval.stats.comparison import CompareOptions, compare_runs

QUICK = CompareOptions(draws=300, coco_draws=40)


def broken(lines, share, seed=0):
    """The lines with a share of the answers losing their first coordinate list."""
    rng = random.Random(seed)
    return [
        item | {"text": item["text"].replace("[<|coord_", "[foo, <|coord_", 1)}
        if rng.random() < share
        else item
        for item in lines
    ]


def test_a_run_against_itself_differs_in_nothing(tmp_path):
    """Every metric: delta exactly 0, interval [0, 0], verdict ~, nothing to detect."""
    run = make_run(tmp_path / "a", random_lines(20, seed=1))
    versus = compare_runs([run, run], QUICK).versus[0]
    tested = [change for change in versus.changes.values() if change.delta is not None]
    assert len(tested) > 100
    for change in tested:
        assert (change.delta, change.low, change.high, change.p) == (0, 0, 0, 1.0), change.key
        assert (change.verdict, change.detectable, change.images_differ) == ("~", None, 0)
    assert not versus.is_worse and versus.movers.num_up == versus.movers.num_down == 0


def test_a_planted_regression_is_found_and_its_reverse_is_an_improvement(tmp_path):
    """Half of the answers spoilt: F1, AP and the drop rate are worse; swapped, they are better."""
    lines = random_lines(40, seed=1)
    a, b = make_run(tmp_path / "a", lines), make_run(tmp_path / "b", broken(lines, 0.5))
    worse, better = (compare_runs(pair, QUICK).versus[0] for pair in ([a, b], [b, a]))
    for key in ("f1/0.50/f1", "parse/drop_rate", "samples/conforming_rate", "coco/AR100"):
        one, two = worse.changes[key], better.changes[key]
        assert (one.verdict, two.verdict) == ("worse", "better"), key
        assert two.delta == pytest.approx(-one.delta)
        assert (two.low, two.high) == (pytest.approx(-one.high), pytest.approx(-one.low))
        assert one.p_adjusted == pytest.approx(two.p_adjusted)
    assert worse.is_worse and not better.is_worse


def test_runs_of_equal_quality_are_not_told_apart(tmp_path):
    """Two noisy runs of the same quality get no verdict, and the size that could be seen."""
    a = make_run(tmp_path / "a", random_lines(40, seed=1))
    b = make_run(tmp_path / "b", random_lines(40, seed=2))
    versus = compare_runs([a, b], QUICK).versus[0]
    change = versus.changes["f1/0.50/f1"]
    assert change.delta != 0 and change.verdict == "~"
    assert change.detectable > abs(change.delta)
    assert change.low < 0 < change.high


def test_values_are_those_of_the_scored_runs_and_every_known_metric_is_there(tmp_path):
    """A's and B's columns are their own scores; all catalogue metrics that have a value appear."""
    a = make_run(tmp_path / "a", random_lines(20, seed=1))
    b = make_run(tmp_path / "b", random_lines(20, seed=2))
    versus = compare_runs([a, b], QUICK).versus[0]
    for side, run in (("a", a), ("b", b)):
        metrics = score_run(run).metrics
        for key, value in metrics.items():
            assert getattr(versus.changes[key], side) == pytest.approx(value, abs=1e-15), key
    for key, change in versus.changes.items():
        assert describe(key) is not None, key
        if change.delta is not None:
            assert change.low is not None and change.low <= change.high, key
            assert change.verdict is not None, key


def test_the_seed_decides_the_draws(tmp_path):
    """The same seed gives the same document, another one other intervals."""
    runs = [make_run(tmp_path / str(k), random_lines(20, seed=k)) for k in (1, 2)]
    one, two = (compare_runs(runs, QUICK).to_json() for _ in range(2))
    assert one == two
    other = compare_runs(runs, CompareOptions(draws=300, coco_draws=40, seed=9)).to_json()
    low = [doc["comparisons"][0]["metrics"]["f1/0.50/f1"]["low"] for doc in (one, other)]
    assert low[0] != low[1]


def test_pairs_by_id_in_any_order_and_lists_what_has_no_partner(tmp_path):
    """Shuffled lines compare as equal; ids of one side only are left out and listed."""
    lines = random_lines(12, seed=1)
    shuffled = lines[::-1]
    a = make_run(tmp_path / "a", lines[:-1])
    b = make_run(tmp_path / "b", shuffled[:-2])
    comparison = compare_runs([a, b], QUICK)
    assert comparison.images == 9
    assert comparison.runs[0].unpaired == ("im000", "im001")
    assert comparison.runs[1].unpaired == ("im011",)
    assert all(
        change.delta == 0
        for change in comparison.versus[0].changes.values()
        if change.delta is not None
    )
    assert any("another order" in note for note in comparison.notes)


def test_no_common_id_does_not_compare(tmp_path):
    """Nothing to pair: NotComparable, whatever is allowed."""
    a = make_run(tmp_path / "a", [line("x", [], answer())])
    b = make_run(tmp_path / "b", [line("y", [], answer())])
    with pytest.raises(NotComparable, match="no sample id"):
        compare_runs([a, b], CompareOptions(allow_mismatch=True))


@pytest.mark.parametrize("change", ["box", "name", "size", "crowd", "missing"])
def test_another_ground_truth_does_not_compare_unless_allowed(tmp_path, change):
    """One differing object is refused; allowed, it is compared and marked."""
    lines = random_lines(10, seed=1)
    other = json.loads(json.dumps(lines))
    victim = next(item for item in other if item["gt"])
    if change == "box":
        victim["gt"][0]["bbox_2d"][2] += 5
    elif change == "name":
        victim["gt"][0]["desc"] = "dog" if victim["gt"][0]["desc"] != "dog" else "cat"
    elif change == "size":
        victim["width"] = 1001
    elif change == "crowd":
        victim["gt"][0]["iscrowd"] = 1
    else:
        victim["gt"].pop()
    runs = [make_run(tmp_path / "a", lines), make_run(tmp_path / "b", other)]
    with pytest.raises(NotComparable, match="ground truth"):
        compare_runs(runs, QUICK)
    comparison = compare_runs(runs, CompareOptions(draws=100, coco_draws=20, allow_mismatch=True))
    assert "another ground truth" in comparison.mismatches[0]


def test_the_order_of_ground_truth_objects_does_not_matter(tmp_path):
    """The same objects in another order are the same ground truth."""
    lines = random_lines(10, seed=1)
    turned = [item | {"gt": item["gt"][::-1]} for item in lines]
    runs = [make_run(tmp_path / "a", lines), make_run(tmp_path / "b", turned)]
    assert compare_runs(runs, QUICK).mismatches == ()


def test_other_class_lists_do_not_compare_and_a_missing_one_is_taken_over(tmp_path):
    """Two different lists are another protocol; a bare file gets the other run's list."""
    lines = random_lines(10, seed=1)
    three = [{"id": k, "name": n} for k, n in enumerate(("cat", "dog", "kite"), start=1)]
    four = [*three, {"id": 9, "name": "cow"}]
    a = make_run(tmp_path / "a", lines, categories=three)
    with pytest.raises(NotComparable, match="class lists"):
        compare_runs([a, make_run(tmp_path / "b", lines, categories=four)], QUICK)
    c = make_run(tmp_path / "c", lines)
    versus = compare_runs([make_run(tmp_path / "d", lines, categories=four), c], QUICK).versus[0]
    assert versus.changes["count/classes"].a == versus.changes["count/classes"].b == 4


def test_scores_stored_under_other_protocols_do_not_compare(tmp_path):
    """Stored scores that disagree are refused; a named protocol holds for both."""
    lines = random_lines(10, seed=1)
    runs = []
    for name, protocol in (("a", "coordeval"), ("b", "coordexp")):
        folder = write_run(tmp_path / name, lines)
        (folder / "score").mkdir()
        stored = {"protocol": {"name": protocol}, "metrics": {}}
        (folder / "score" / "metrics.json").write_text(json.dumps(stored))
        runs.append(open_run(folder))
    with pytest.raises(NotComparable, match="protocols"):
        compare_runs(runs, QUICK)
    named = CompareOptions(draws=100, coco_draws=20, protocol="coordexp")
    assert compare_runs(runs, named).protocol["name"] == "coordexp"
    marked = CompareOptions(draws=100, coco_draws=20, allow_mismatch=True)
    assert "protocols" in compare_runs(runs, marked).mismatches[0]


def test_stale_stored_scores_change_nothing(tmp_path):
    """Numbers come from the texts: what an older version stored is not believed."""
    lines = random_lines(10, seed=1)
    folder = write_run(tmp_path / "a", lines)
    (folder / "score").mkdir()
    stale = {"protocol": {"name": "coordeval"}, "metrics": {"f1/0.50/f1": 0.01}, "versions": {}}
    (folder / "score" / "metrics.json").write_text(json.dumps(stale))
    versus = compare_runs([open_run(folder), make_run(tmp_path / "b", lines)], QUICK).versus[0]
    assert versus.changes["f1/0.50/f1"].a == versus.changes["f1/0.50/f1"].b > 0.1


def test_one_score_source_for_all_runs(tmp_path):
    """A run without confidences makes AP of both score-less, and says so."""
    lines = random_lines(10, seed=1)
    scored = [
        item | {"scores": [0.9 - 0.01 * k for k in range(score_length(item, tmp_path))]}
        for item in lines
    ]
    runs = [make_run(tmp_path / "a", scored), make_run(tmp_path / "b", lines)]
    comparison = compare_runs(runs, QUICK)
    assert comparison.protocol["score_source"] == "constant"
    assert "same score for every box" in comparison.notes[0]
    assert comparison.versus[0].changes["coco/AP"].delta == 0


def score_length(item, tmp_path):
    run = make_run(tmp_path / "one", [item])
    return score_run(run).metrics["parse/objects_found"]


def test_required_settings_must_be_recorded_and_equal(tmp_path):
    """--require-same: equal passes; differing, or recorded nowhere, does not; typos are named."""
    lines = random_lines(6, seed=1)
    greedy, warm = {"temperature": 0.0, "seed": 0}, {"temperature": 0.7, "seed": 0}
    a = make_run(tmp_path / "a", lines, decode=greedy, frame="unit-1000")
    b = make_run(tmp_path / "b", lines, decode=warm)
    options = {"draws": 100, "coco_draws": 20}
    compare_runs([a, a], CompareOptions(require_same=("decode", "frame"), **options))
    with pytest.raises(NotComparable, match=r"decode.*temperature: 0\.0 / 0\.7"):
        compare_runs([a, b], CompareOptions(require_same=("decode",), **options))
    with pytest.raises(NotComparable, match="no run records it"):
        compare_runs([a, b], CompareOptions(require_same=("prompt",), **options))
    with pytest.raises(ConfigError, match="did you mean 'decode'"):
        compare_runs([a, b], CompareOptions(require_same=("decod",), **options))
    settings = compare_runs([a, b], CompareOptions(**options)).settings
    assert "frame" in settings.same and settings.differs == {"decode": [greedy, warm]}


def test_parts_with_a_hash_are_the_same_wherever_they_lay(tmp_path):
    """A checkpoint that was moved is the same checkpoint."""
    lines = random_lines(6, seed=1)
    runs = [
        make_run(tmp_path / name, lines, checkpoint={"path": path, "name": name, "hash": "h"})
        for name, path in (("a", "x/ckpt"), ("b", "y/ckpt"))
    ]
    assert "checkpoint" in compare_runs(runs, QUICK).settings.same


def test_a_run_of_errors_alone_has_nothing_to_compare(tmp_path):
    """All engine errors: incomplete (3), not a comparison of nothing."""
    lines = random_lines(6, seed=1)
    failed = [item | {"text": "", "finish_reason": "error", "error": "x"} for item in lines]
    runs = [make_run(tmp_path / "a", lines), make_run(tmp_path / "b", failed)]
    with pytest.raises(RunIncomplete, match="nothing to compare"):
        compare_runs(runs, QUICK)


def test_an_id_twice_is_refused(tmp_path):
    """Pairing by id needs ids that stand once."""
    lines = random_lines(3, seed=1)
    runs = [make_run(tmp_path / "a", lines), make_run(tmp_path / "b", [*lines, lines[0]])]
    with pytest.raises(DataError, match="stands twice"):
        compare_runs(runs, QUICK)


def test_several_runs_share_the_images_and_the_reference(tmp_path):
    """Three runs: each against A, on the images that all three hold, as in pairs."""
    lines = random_lines(20, seed=1)
    a = make_run(tmp_path / "a", lines)
    b = make_run(tmp_path / "b", broken(lines, 0.5))
    c = make_run(tmp_path / "c", random_lines(20, seed=2))
    three = compare_runs([a, b, c], QUICK)
    assert [versus.label for versus in three.versus] == ["B", "C"]
    for number, other in enumerate((b, c)):
        pair = compare_runs([a, other], QUICK).versus[0]
        assert three.versus[number].changes["f1/0.50/f1"] == pair.changes["f1/0.50/f1"]


def test_one_run_or_too_few_draws_are_refused(tmp_path):
    """User faults are named before anything is read."""
    run = make_run(tmp_path / "a", random_lines(3, seed=1))
    with pytest.raises(ConfigError, match="two runs"):
        compare_runs([run])
    with pytest.raises(ConfigError, match="--draws"):
        CompareOptions(draws=10)
    with pytest.raises(ConfigError, match="--coco-draws"):
        CompareOptions(coco_draws=5)


def test_too_few_differing_images_prove_nothing(tmp_path):
    """Three spoilt images of forty: no verdict, and the count that says why."""
    lines = random_lines(40, seed=1)
    spoilt = [
        item | {"text": "no JSON at all"} if number < 3 else item
        for number, item in enumerate(lines)
    ]
    runs = [make_run(tmp_path / "a", lines), make_run(tmp_path / "b", spoilt)]
    change = compare_runs(runs, QUICK).versus[0].changes["samples/unparseable_rate"]
    assert (change.images_differ, change.verdict) == (3, "~")


def test_drops_are_counted_with_what_was_written(tmp_path):
    """The foreign token, its slot and its count stand beside the reason; details join by name."""
    spoilt = record("cat", (1, 2, 30, 40)).replace("<|coord_1|>", "第九")
    drifted = record("cat", (1, 2, 30, 40)).replace("bbox_2d", "bbox_3d")
    gt = [("cat", 1, 2, 30, 40)]
    good = answer(record("cat", (1, 2, 30, 40)))
    a = make_run(tmp_path / "a", [line(str(k), gt, good) for k in range(8)])
    texts = [answer(spoilt, spoilt)] * 5 + [answer(drifted)] * 2 + [good]
    b = make_run(tmp_path / "b", [line(str(k), gt, text) for k, text in enumerate(texts)])
    versus = compare_runs([a, b], QUICK).versus[0]
    first, second = versus.drops
    assert (first.reason, first.detail) == ("wrong_arity", "foreign_token")
    assert (first.counts, first.images) == ((0, 10), (0, 5))
    (example,) = first.examples[1]
    assert (example.evidence, example.slot, example.count) == ("第九", 0, 10)
    assert (second.detail, second.counts) == ("bbox_3d", (0, 2))
    detail = versus.changes["parse/detail/wrong_arity/foreign_token"]
    assert (detail.a, detail.b, detail.delta) == (0, 10, 10)
    assert detail.low is not None


def test_classes_carry_their_ap(tmp_path):
    """Class slices hold AP of both runs, as the per-class tables have it."""
    runs = [make_run(tmp_path / str(k), random_lines(20, seed=k)) for k in (1, 2)]
    slices = compare_runs(runs, QUICK).versus[0].slices
    table = score_run(runs[1]).per_class.set_index("class")["AP"]
    for part in slices:
        if part.kind == "class" and part.b_ap is not None:
            assert part.b_ap == pytest.approx(float(table[part.name]))
    assert any(part.a_ap is not None for part in slices)
