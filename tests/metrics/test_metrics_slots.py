"""Slot telemetry to `slot/*`: an independent reference, what is left out, and resampling."""

from __future__ import annotations

import json
import random
import statistics

import numpy as np
import pytest
from telemetry import reading, write_slots

from coordeval.errors import DataError
from coordeval.metrics.catalogue import describe
from coordeval.metrics.score import score_run
from coordeval.metrics.slot_metrics import slot_metrics
from coordeval.runs import open_run
from coordeval.stats.replicates import replicate

GT = {"desc": "cat", "bbox_2d": [0, 0, 500, 500]}


@pytest.fixture
def scored(tmp_path, line, rec, text):
    """Score lines with telemetry rows."""

    def run(ids, rows, name="run", **more):
        folder = tmp_path / name
        folder.mkdir()
        answer = text(rec("cat", (0, 0, 500, 500)))
        lines = [line(answer, [GT], id=key, **more.get(key, {})) for key in ids]
        folder.joinpath("rollouts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        folder.joinpath("run.json").write_text('{"format": "coordeval-run/1"}')
        if rows is not None:
            write_slots(folder, rows)
        return score_run(open_run(folder))

    return run


def random_rows(ids, seed):
    """Slots of several records with unknowns, foreign tokens and a bound."""
    rng = random.Random(seed)

    def maybe(value):
        return None if rng.random() < 0.15 else value

    return [
        reading(
            key,
            sample_index,
            token=10 * record + slot,
            record=record,
            slot=slot,
            written_bin=None if rng.random() < 0.2 else rng.randrange(1000),
            coord_mass=maybe(0.98 * rng.random()),
            mass_bound=rng.choice((0.0, rng.random() / 99)),
            top_prob=maybe(rng.uniform(0.001, 1)),
            entropy=maybe(7 * rng.random()),
            other_prob=maybe(rng.uniform(0.001, 1)),
        )
        for key in ids
        for sample_index in (0, 1)
        for record in range(rng.randrange(4))
        for slot in range(rng.randrange(1, 6))
    ]


def mean(values):
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def reference(rows):
    """The metrics of rows (headline only), row by row."""
    masses = [r["coord_mass"] for r in rows if r["coord_mass"] is not None]
    ends = {}
    for row in rows:
        low, high = ends.get(row["id"], (row["record"], row["record"]))
        ends[row["id"]] = min(low, row["record"]), max(high, row["record"])
    several = [r for r in rows if ends[r["id"]][0] < ends[r["id"]][1]]
    both = [r for r in rows if r["other_prob"] is not None and r["top_prob"] is not None]
    ordered = sorted(masses)
    place = 0.05 * (len(ordered) - 1)
    at = int(place)
    after = ordered[min(at + 1, len(ordered) - 1)]
    return {
        "slot/total": len(rows),
        "slot/samples": len(ends),
        "slot/mass_mean": mean(masses),
        "slot/mass_min": min(masses),
        "slot/mass_p05": ordered[at] + (after - ordered[at]) * (place - at),
        "slot/mass_below_0.50_rate": sum(m < 0.5 for m in masses) / len(masses),
        "slot/mass_below_0.90_rate": sum(m < 0.9 for m in masses) / len(masses),
        "slot/mass_kept": mean(r["coord_mass"] for r in rows if r["written_bin"] is not None),
        "slot/mass_foreign": mean(r["coord_mass"] for r in rows if r["written_bin"] is None),
        "slot/mass_first_record": mean(
            r["coord_mass"] for r in several if r["record"] == ends[r["id"]][0]
        ),
        "slot/mass_last_record": mean(
            r["coord_mass"] for r in several if r["record"] == ends[r["id"]][1]
        ),
        "slot/mass_bound_max": max(r["mass_bound"] for r in rows),
        "slot/top_prob_mean": mean(r["top_prob"] for r in rows),
        "slot/entropy_mean": mean(r["entropy"] for r in rows),
        "slot/control_lost_rate": sum(r["other_prob"] > r["top_prob"] for r in both) / len(both),
        "slot/foreign_rate": sum(r["written_bin"] is None for r in rows) / len(rows),
    }


def of_slots(result):
    return {key: value for key, value in result.metrics.items() if key.startswith("slot/")}


@pytest.mark.parametrize("seed", range(6))
def test_every_slot_metric_equals_a_row_by_row_reference(scored, seed):
    """Means, quantile, rates and trend over the headline's slots, whatever the rows' order."""
    ids = [f"im{number}" for number in range(12)]
    rows = random_rows(ids, seed)
    random.Random(seed).shuffle(rows)
    got = of_slots(scored(ids, rows))
    want = reference([row for row in rows if row["sample_index"] == 0])
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert got[key] == (value if value is None else pytest.approx(value, rel=1e-12)), key
        info = describe(key)
        assert info is not None
        assert value is None or 0 <= value <= (info.high or np.inf)


def test_without_telemetry_everything_is_null(scored, score, line):
    """No file: all null, also for a bare file; an empty table: no slots, and nothing else."""
    none = of_slots(scored(["a"], None))
    assert len(none) == len(slot_metrics(None))
    assert set(none.values()) == {None}
    assert set(of_slots(score([line()], bare=True)).values()) == {None}
    empty = of_slots(scored(["a"], [], name="empty"))
    assert (empty.pop("slot/total"), empty.pop("slot/samples")) == (0, 0)
    assert set(empty.values()) == {None}


def test_what_has_no_line_or_no_output_is_left_out(scored):
    """Readings of unknown ids, of engine errors and of other samples count nowhere."""
    rows = [
        reading("a", coord_mass=0.5),
        reading("a", 1, coord_mass=0.1),
        reading("gone", coord_mass=0.2),
        reading("bad", coord_mass=0.3),
    ]
    result = scored(["a", "bad"], rows, bad={"error": "boom"})
    assert of_slots(result)["slot/total"] == 1
    assert of_slots(result)["slot/mass_mean"] == 0.5


def test_a_side_that_no_top_token_shows_has_lost(scored):
    """With top tokens only: no bin among them is control lost, no other token is control kept."""
    rows = [
        reading(token=1, coord_mass=0.0, mass_bound=0.2, top_bin=None, top_prob=None),
        reading(token=2, coord_mass=0.7, mass_bound=0.3, other_id=None, other_prob=None),
        reading(token=3, coord_mass=None, top_prob=None),
    ]
    assert of_slots(scored(["a"], rows))["slot/control_lost_rate"] == 0.5


def test_broken_telemetry_is_a_data_error(tmp_path, scored):
    """A file that is no table, or another table, is said by name."""
    scored(["a"], None)
    path = tmp_path / "run" / "slots.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"slots\.parquet"):
        score_run(open_run(tmp_path / "run"))


def test_every_slot_metric_is_resampled_as_a_resampled_run_would_be(scored):
    """A draw's numbers are those of a run whose images really stand there so often."""
    ids = [f"im{number:02d}" for number in range(15)]
    rows = random_rows(ids, 3)
    own = scored(ids, rows, name="own")
    weights = np.random.default_rng(0).integers(0, 4, size=len(ids)).astype(np.int32)
    copies = [
        (key, f"{key}-{copy}") for key, n in zip(ids, weights, strict=True) for copy in range(n)
    ]
    repeated = [row | {"id": new} for old, new in copies for row in rows if row["id"] == old]
    want = of_slots(scored([new for _, new in copies], repeated, name="repeated"))
    (got,) = replicate([own], weights[None], coco_draws=1)
    for key, value in of_slots(own).items():
        np.testing.assert_allclose(got.values[key], [value, want[key]], rtol=1e-12, err_msg=key)
