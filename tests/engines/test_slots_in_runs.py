"""Telemetry through the driver: resumed, retried and merged runs have the whole run's slots."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.engines.merge import merge_runs
from coordeval.engines.replay import ReplayEngine
from coordeval.engines.runner import run_rollouts
from coordeval.parsers import dialect_named
from coordeval.records import SlotReading
from coordeval.runs import RunWriter, open_run, read_slots

FIXTURES = Path(__file__).parents[2] / "fixtures"
IDENTITY = {"checkpoint": {"name": "b", "hash": "h"}, "frame": "coordexp"}


def reading(token):
    return SlotReading(token, 0, 0, "bbox_2d", 7, 1, 0.5, 0.0, 1, 0.25, 1.0, 3, "x", 0.125)


class Telling(ReplayEngine):
    """Serves a recording with slots, and may be stopped; batches come in any order."""

    def __init__(self, recording, *, stop_after=None, backwards=False):
        super().__init__(recording, batch_size=2)
        self.stop_after, self.backwards = stop_after, backwards

    def generate(self, requests):
        asked = requests[::-1] if self.backwards else requests
        for number, batch in enumerate(super().generate(asked)):
            if number == self.stop_after:
                raise KeyboardInterrupt
            for rollout in batch:
                if rollout.finish_reason != "error":
                    rollout.slots = [reading(int(rollout.id[2:]) * 10 + k) for k in range(3)]
            yield batch


def roll(engine, samples, out, **options):
    arguments = {"identity": IDENTITY, "extra": {}, "decode": DecodeSettings(max_new_tokens=9)}
    arguments |= {"dialect": dialect_named("coordjson")}
    return run_rollouts(engine, samples, out=out, **(arguments | options))


def slots(out):
    """(id, token) of each row."""
    table = read_slots(open_run(out))
    return list(zip(table["id"], table["token"].tolist(), strict=True))


def expected(samples):
    return [(s.id, int(s.id[2:]) * 10 + k) for s in samples for k in range(3)]


@pytest.mark.parametrize("backwards", [False, True])
def test_an_interrupted_run_has_its_slots_and_the_resumed_one_all(
    tmp_path, samples, recording, backwards
):
    """The table is there after the interruption, and in dataset order after the resume."""
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        roll(Telling(recording, stop_after=3, backwards=backwards), samples, out)
    assert len(slots(out)) == 18
    assert (out / "slots.parquet").exists()
    roll(Telling(recording, backwards=backwards), samples, out)
    assert slots(out) == expected(samples)
    roll(Telling(recording), samples, tmp_path / "whole")
    assert read_slots(open_run(out)).equals(read_slots(open_run(tmp_path / "whole")))
    assert sorted(path.name for path in out.iterdir() if "slots" in path.name) == ["slots.parquet"]


def test_retried_errors_bring_their_slots(tmp_path, samples, recording):
    """What failed has no slots; made anew it has them, in its place."""
    partial = tmp_path / "partial.jsonl"
    kept = recording.read_text(encoding="utf-8").splitlines()[4:]
    partial.write_text("\n".join(kept) + "\n", encoding="utf-8")
    out = tmp_path / "run"
    roll(Telling(partial), samples, out)
    assert slots(out) == expected(samples[2:])
    roll(Telling(recording), samples, out, retry_errors=True)
    assert slots(out) == expected(samples)


def test_merged_shards_have_the_slots_of_the_whole(tmp_path, samples, recording):
    """Rows stand in the order of the merged lines, equal to those of one run."""
    parts = []
    for index in (1, 0):
        out = tmp_path / f"part{index}"
        identity = IDENTITY | {"selection": {"ids": None, "limit": None, "shard": f"{index}/2"}}
        roll(Telling(recording), samples[index::2], out, identity=identity)
        parts.append(out)
    merge_runs(parts, tmp_path / "merged")
    assert slots(tmp_path / "merged") == expected(samples)


def test_runs_without_telemetry_merge_without_slots(tmp_path, samples, recording):
    """No table comes from none."""
    parts = []
    for index in (0, 1):
        out = tmp_path / f"part{index}"
        roll(ReplayEngine(recording), samples[index::2], out)
        parts.append(out)
    merge_runs(parts, tmp_path / "merged")
    assert not (tmp_path / "merged" / "slots.parquet").exists()
    assert read_slots(open_run(tmp_path / "merged")) is None


@pytest.mark.slow
def test_a_controlled_run_that_was_killed_equals_an_uninterrupted_one(tmp_path):
    """Constraint, guard, telemetry, greedy and drawn samples: resumed, all files are the same."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from coordeval.data.dataset import open_dataset
    from coordeval.data.prompts import default_prompt
    from coordeval.engines.checkpoint import resolve_checkpoint
    from coordeval.engines.hf import HfEngine
    from coordeval.engines.hf_loading import load_model, load_reader

    dialect = dialect_named("coordjson")
    decode = DecodeSettings(
        max_new_tokens=160,
        samples=2,
        sample_temperature=1.2,
        constraint=ConstraintSettings(mode="coords"),
        guard=GuardSettings(mode="stop"),
        telemetry=True,
    )
    checkpoint = resolve_checkpoint(str(FIXTURES / "ckpt-2400"))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    samples = list(open_dataset(FIXTURES / "scenes" / "heldout.jsonl"))[12:20]

    class Stopped(HfEngine):
        def generate(self, requests):
            yield next(iter(super().generate(requests)))
            raise KeyboardInterrupt

    def start(kind, batch_size):
        return kind(
            reader=load_reader(checkpoint),
            load=lambda: model,
            prompt=default_prompt(dialect=dialect),
            decode=decode,
            dialect=dialect,
            dtype="fp32",
            batch_size=batch_size,
        )

    options = {"decode": decode, "identity": IDENTITY | {"decode": decode.to_json()}}
    out, whole = tmp_path / "run", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        roll(start(Stopped, 5), samples, out, **options)
    with (out / "rollouts.jsonl").open("ab") as handle:
        handle.write(b'{"id": "torn')
    with (out / "slots.pending.jsonl").open("ab") as handle:
        handle.write(b'{"id": "torn')
    roll(start(HfEngine, 32), samples, out, **options)
    roll(start(HfEngine, 32), samples, whole, **options)
    same_lines(out, whole)
    one, other = read_slots(open_run(out)), read_slots(open_run(whole))
    exact = [name for name in one.columns if str(one[name].dtype).lower() != "float64"]
    exact.remove("top_bin")  # two bins may be equally probable to rounding
    exact = [name for name in exact if not name.startswith("other")]
    assert one[exact].equals(other[exact])
    assert (one["coord_mass"] - other["coord_mass"]).abs().max() < 1e-4
    assert len(one) > 100
    reasons = {line["finish_reason"] for line in lines(whole)}
    assert reasons <= {"stop", "length", "loop_guard"}


def lines(out):
    return [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]


def same_lines(one, other):
    for mine, theirs in zip(lines(one), lines(other), strict=True):
        for line in (mine, theirs):
            line.pop("seconds")
        assert mine.pop("token_logprobs") == pytest.approx(theirs.pop("token_logprobs"), abs=1e-4)
        assert mine == theirs


def test_a_writer_without_a_finish_loses_nothing(tmp_path, samples, recording):
    """A run that only ever was killed and read has its slots all the same."""
    engine = Telling(recording)
    from coordeval.engines.runner import make_requests

    requests = make_requests(samples, DecodeSettings(max_new_tokens=9))
    with RunWriter(tmp_path / "run", identity=IDENTITY, extra={}) as writer:
        for batch in engine.generate(requests):
            writer.append(dataclasses.replace(rollout) for rollout in batch)
    assert slots(tmp_path / "run") == expected(samples)
