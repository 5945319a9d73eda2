"""`rollout/*` in the log: the scorer's numbers, adding up over batches, views and processes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_setup import FIXTURES, channel_of, parts_of, silent, window

from coordeval.coords import FRAMES
from coordeval.metrics.catalogue import describe
from coordeval.metrics.score import score_run
from coordeval.metrics.token_map import VocabularyVotes, vocabulary_from_meta
from coordeval.parsers.dialects import dialect_from_json, dialect_named
from coordeval.runs import open_run
from coordeval.training.rollout_eval.ranks import Alone
from coordeval.training.stage2.rollout_dumps import MemoryRun, RolloutDumps
from coordeval.training.stage2.rollout_sums import (
    Reading,
    RolloutSums,
    added,
    rollout_metrics,
    rollout_sums,
)
from coordeval.training.stage2.target_maker import COUNTED
from coordeval.training.stage2.telemetry import PREFIX, VIEW_KEYS, RolloutTelemetry

RUNS = ("shapes-final", "ckpt-2400", "ckpt-loops", "ckpt-polygons")
DUMPS = ("broken-records", "cjk-slots", "engine-faults", "periodic-loops", "truncation", "wrapped")


@cache
def recorded(name):
    """(Rollouts, how they are read, the scorer's metrics) of a fixture's run or dump."""
    is_run = name in RUNS
    run = open_run(FIXTURES / "runs" / name if is_run else FIXTURES / "dumps" / f"{name}.jsonl")
    rollouts = [rollout for rollout in run.rollouts() if rollout.sample_index == 0]
    result = score_run(run)
    if is_run:
        vocabulary, dialect = vocabulary_from_meta(run.meta), dialect_from_json(run.meta["dialect"])
    else:
        votes = VocabularyVotes()
        for one in rollouts:
            if one.token_ids is not None and not one.failed and votes.is_open:
                votes.add(one.text, np.array(one.token_ids))
        vocabulary, dialect = votes.vocabulary(), dialect_named("coordjson")
    guard = run.meta.get("decode", {}).get("guard", {})
    reading = Reading(
        dialect=dialect,
        frame=run.frame if is_run else FRAMES["coordexp"],
        categories=run.categories,
        vocabulary=vocabulary,
        guarded=guard.get("mode", "off") != "off",
    )
    return rollouts, reading, result.metrics


@pytest.mark.parametrize("name", [*RUNS, *DUMPS])
def test_values_are_those_of_the_scorer(name):
    """Every key stands in the catalogue and equals what scoring the same rollouts gives."""
    rollouts, reading, wanted = recorded(name)
    found = rollout_metrics(rollout_sums(rollouts, reading))
    assert len(found) > 60
    for key, value in found.items():
        assert describe(key) is not None, key
        assert value == wanted[key] or value == pytest.approx(wanted[key], rel=1e-12), key


@settings(max_examples=25)
@given(name=st.sampled_from([*RUNS, "engine-faults"]), data=st.data())
def test_parts_add_up_to_the_whole(name, data):
    """However rollouts are dealt out, empty parts included, the sums give the whole's values."""
    rollouts, reading, _ = recorded(name)
    dealt = data.draw(st.lists(st.integers(0, 4), min_size=len(rollouts), max_size=len(rollouts)))
    parts = [
        rollout_sums([r for r, to in zip(rollouts, dealt, strict=True) if to == part], reading)
        for part in range(5)
    ]
    whole = rollout_metrics(rollout_sums(rollouts, reading))
    assert rollout_metrics(added(parts)) == pytest.approx(whole)


def test_there_are_the_same_names_where_there_is_nothing():
    """No rollouts: counts of 0, ratios without value, and not one name less."""
    rollouts, reading, _ = recorded("ckpt-2400")
    empty = rollout_metrics(rollout_sums([], reading))
    assert empty.keys() == rollout_metrics(rollout_sums(rollouts, reading)).keys()
    assert empty == rollout_metrics(added([])) | {"dup/max_repeat": empty["dup/max_repeat"]}
    assert empty["samples/total"] == empty["parse/objects_found"] == 0
    assert empty["f1/0.50/f1"] is None
    assert empty["tokens/mean"] is None


def test_a_guard_counts_where_one_watched_on_any_process():
    """Without a guard its values are none; with one they are sums and rates."""
    rollouts, reading, _ = recorded("ckpt-loops")
    off = rollout_metrics(rollout_sums(rollouts, reading))
    assert all(off[key] is None for key in off if key.startswith("guard/"))
    stopped = replace(
        rollouts[0],
        finish_reason="loop_guard",
        guard={"kind": "exact", "onset": 5, "tokens_saved": 40},
    )
    watched = replace(reading, guarded=True)
    sums = added([rollout_sums([stopped], watched), rollout_sums(rollouts[1:4], watched)])
    found = rollout_metrics(sums)
    assert found["guard/stopped"] == found["guard/marked"] == 1
    assert found["guard/stopped_rate"] == 0.25
    assert found["guard/tokens_saved"] == 40
    assert found["parse/issue/stopped_by_guard"] == 1


def test_waste_is_unknown_where_a_loop_has_no_tokens():
    """One part that does not know makes the sum unknown; a part without loops does not."""
    rollouts, reading, wanted = recorded("ckpt-loops")
    assert wanted["dup/wasted_tokens"] > 0
    looping = next(r for r in rollouts if rollout_sums([r], reading)["loops"])
    blind = rollout_sums([replace(looping, token_ids=None)], reading)
    seen = rollout_sums([rollout for rollout in rollouts if rollout.id != looping.id], reading)
    assert rollout_metrics(added([blind, seen]))["dup/wasted_tokens"] is None
    assert rollout_metrics(added([seen, rollout_sums([], reading)]))["dup/wasted_tokens"] > 0


class Several:
    """Ranks of which each holds one part."""

    def __init__(self, others):
        self.rank, self.world, self._others = 0, 1 + len(others), others

    def gather(self, value):
        return [value, *self._others]


class Catching(Alone):
    """Keeps what is sent."""

    def gather(self, value):
        self.sent = value
        return [value]


def test_processes_and_views_are_told_apart():
    """First views under the catalogue's names, over all processes; the others under `views/`."""
    rollouts, reading, wanted = recorded("ckpt-2400")
    others, other_reading, other_wanted = recorded("ckpt-loops")
    assert reading.dialect == other_reading.dialect
    sent = []
    for rank in range(2):
        telemetry = RolloutTelemetry(reading, views=3)
        mine = [r for number, r in enumerate(rollouts) if number % 2 == rank]
        views = [replace(r, sample_index=1 + rank) for r in others]
        telemetry.begin([*mine, *views])
        telemetry.count(dict.fromkeys(COUNTED, 2) | {"matched": 3 + rank, "missed": 1})
        catching = Catching()
        values = telemetry.values(catching)
        sent.append(catching.sent)
    values = telemetry.values(Several(sent[:1]))
    for key, value in values.items():
        name = key.removeprefix(PREFIX)
        if describe(name) is not None:
            assert value == wanted[name] or value == pytest.approx(wanted[name]), key
    assert {key for key in values if key.startswith(f"{PREFIX}views/")} == {
        f"{PREFIX}views/{key}" for key in VIEW_KEYS
    }
    assert values["rollout/views/samples/total"] == 2 * len(others)
    for key in ("parse/drop_rate", "f1/0.50/f1", "dup/loop_rate", "tokens/mean"):
        assert values[f"rollout/views/{key}"] == pytest.approx(other_wanted[key])
    assert values["rollout/target/matched"] == 7
    assert values["rollout/match/recall"] == 7 / 9
    assert values["rollout/match/precision"] == 7 / (7 + 3 * 4)
    assert values["rollout/match/f1"] == 14 / (14 + 12 + 2)


def test_a_step_forgets_the_one_before():
    """Values are those of the rollouts made last, with the same names in every step."""
    rollouts, reading, _ = recorded("ckpt-2400")
    telemetry = RolloutTelemetry(reading)
    before = telemetry.values(Alone())
    telemetry.begin(rollouts)
    telemetry.count(dict.fromkeys(COUNTED, 1))
    full = telemetry.values(Alone())
    telemetry.begin([])
    after = telemetry.values(Alone())
    assert before == after
    assert before.keys() == full.keys()
    assert full["rollout/samples/total"] == len(rollouts)
    assert not any("views" in key for key in full)


@pytest.mark.slow
def test_a_prepared_window_is_told_as_the_scorer_would(tmp_path):
    """From rollouts in memory to the log: the scorer's numbers, and counts that reconcile."""
    parts = parts_of(
        FIXTURES / "ckpt-2400", tmp_path / "run", rollout={"decode": {"max_new_tokens": 200}}
    )
    channel = channel_of(parts)
    heard = []
    roll = channel._rollouts.roll
    channel._rollouts.roll = lambda *a, **k: heard.append(roll(*a, **k)) or heard[-1]
    channel.prepare(window(parts, (0, 1, 2), (3, 4)), 0)
    values = channel.telemetry()
    flat = tuple(rollout for views in heard[0] for rollout in views)
    run = MemoryRun(path=tmp_path, rollouts_path=tmp_path, meta={}, held=flat)
    wanted = score_run(run).metrics
    told = {key.removeprefix(PREFIX): value for key, value in values.items()}
    compared = [key for key in told if describe(key) is not None]
    assert len(compared) > 60
    for key in compared:
        assert told[key] == wanted[key] or told[key] == pytest.approx(wanted[key]), key
    of = {name: told[f"target/{name}"] for name in COUNTED}
    assert of["rollouts"] == 5
    assert (
        of["found"]
        == told["parse/objects_found"]
        == sum(
            of[name]
            for name in (
                "matched",
                "false_positives",
                "duplicates",
                "on_crowd",
                "dropped",
                "unread",
            )
        )
    )
    assert of["matched"] + of["missed"] == told["count/gt"]
    assert of["dropped"] == told["parse/dropped_invalid"]


def test_dumps_are_written_every_nth_rollout_step(tmp_path):
    """Failures first, under the step that the log names; the same steps after a resume."""
    rollouts, reading, _ = recorded("ckpt-2400")
    parts = parts_of(FIXTURES / "shapes-final", tmp_path / "run")
    decode = channel_of(parts)._rollouts.decode
    notes = []
    folder = tmp_path / "out"
    for first in (0, 4):  # a training, and one that goes on from step 4
        dumps = RolloutDumps(
            folder,
            reading,
            decode,
            every=2,
            number_of=lambda step: step // 2,  # every second step is a rollout step
            count=3,
            notify=notes.append,
        )
        for step in range(first, 8, 2):
            dumps.add([*rollouts, replace(rollouts[0], sample_index=1)], step)
        dumps.add([], 0)
    written = sorted(path.name for path in (folder / "monitor_dumps").iterdir())
    assert written == ["rollout_step_000001.json", "rollout_step_000005.json"]
    dump = json.loads((folder / "monitor_dumps" / written[1]).read_text())
    assert dump["step"] == 5
    assert dump["num_samples"] == len(rollouts)
    assert len(dump["samples"]) == 3
    assert dump["samples"][0]["failures"]
    assert dump["samples"][0]["text"] in {rollout.text for rollout in rollouts}
    assert notes == []
    (tmp_path / "file").write_text("")
    broken = RolloutDumps(
        tmp_path / "file",
        reading,
        decode,
        every=1,
        number_of=first_of_all,
        count=3,
        notify=notes.append,
    )
    broken.add(rollouts, 0)
    assert len(notes) == 1
    assert "not written" in notes[0]


def first_of_all(_):
    return 0


@pytest.mark.slow
def test_a_dry_run_writes_nothing(tmp_path):
    """Dumps are of real steps alone."""
    parts = parts_of(
        FIXTURES / "shapes-final",
        tmp_path / "run",
        rollout={"dump_every": 1, "decode": {"max_new_tokens": 20}},
        notify=silent,
    )
    channel = channel_of(parts)
    batches = window(parts, (0,))
    channel.prepare(batches, 0, dry=True)
    assert not (tmp_path / "run" / "monitor_dumps").exists()
    channel.prepare(batches, 0)
    assert (tmp_path / "run" / "monitor_dumps" / "rollout_step_000001.json").exists()


def test_sums_of_nothing_are_zero():
    """A name that was never counted is 0."""
    assert RolloutSums()["anything"] == 0


def test_every_count_of_a_rollout_step_is_explained():
    """The page on stage 2 tells what each `rollout/target/...` of a log counts, and no other."""
    page = (Path(__file__).parents[3] / "docs" / "stage2.md").read_text(encoding="utf-8")
    table = page.split("| `rollout/target/` | counts |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(COUNTED)
