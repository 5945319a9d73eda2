"""Promises about the driver: every id exactly once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from coordeval.engines.base import DecodeSettings, error_rollout, new_rollout, request_seed
from coordeval.engines.interrupts import Interrupted, interrupt_guard
from coordeval.engines.replay import ReplayEngine
from coordeval.engines.runner import make_requests, run_rollouts
from coordeval.errors import ConfigError, DataError, RunLockedError, RunMismatchError
from coordeval.parsers.dialects import dialect_named
from coordeval.runs import RunWriter, open_run

IDENTITY = {
    "checkpoint": {"path": "/a/b", "name": "b", "hash": "h1"},
    "dialect": dialect_named("coordjson").to_json(),
    "frame": "coordexp",
    "decode": {"temperature": 0.0},
}


def roll(engine, samples, out, decode, **options):
    arguments = {"identity": IDENTITY, "extra": {}, "dialect": dialect_named("coordjson")}
    return run_rollouts(engine, samples, out=out, decode=decode, **(arguments | options))


def lines(out):
    return [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]


def ids(out):
    return [line["id"] for line in lines(out)]


class CountingEngine(ReplayEngine):
    """A replay engine that remembers what it was asked, and can be told to stop."""

    def __init__(self, recording, *, batch_size=2, stop_after=None, error=None):
        super().__init__(recording, batch_size=batch_size)
        self.asked = []
        self.stop_after, self.error = stop_after, error

    def generate(self, requests):
        self.asked = [request.key for request in requests]
        for number, batch in enumerate(super().generate(requests)):
            if number == self.stop_after:
                raise self.error
            yield batch


def test_a_whole_run_has_every_id_once_and_says_so(tmp_path, samples, recording, greedy):
    """An uninterrupted run is complete, in dataset order, with the recorded texts."""
    outcome = roll(ReplayEngine(recording), samples, tmp_path / "run", greedy)
    assert ids(tmp_path / "run") == [sample.id for sample in samples]
    assert (outcome.status, outcome.missing, outcome.exit_code()) == ("complete", (), 0)
    assert outcome.counts["finished"] == outcome.counts["rollouts"] == 12
    assert outcome.counts["tokens"] == 36
    assert outcome.counts["finish_reasons"] == {"stop": 12}
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert meta["status"] == "complete"
    assert meta["counts"] == outcome.counts
    for rollout, sample in zip(open_run(tmp_path / "run").rollouts(), samples, strict=True):
        assert rollout.gt == sample.objects
        assert rollout.text.count('"desc"') == len(sample.objects)


def test_a_stopped_run_goes_on_with_what_is_missing(tmp_path, samples, recording, greedy):
    """After an interruption only unfinished ids are asked for, and the result is the same."""
    out = tmp_path / "run"
    engine = CountingEngine(recording, stop_after=3, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        roll(engine, samples, out, greedy)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert len(ids(out)) == 6
    again = CountingEngine(recording)
    outcome = roll(again, samples, out, greedy)
    assert again.asked == [(sample.id, 0) for sample in samples[6:]]
    assert outcome.resumed == 6
    roll(ReplayEngine(recording), samples, tmp_path / "whole", greedy)
    assert lines(out) == lines(tmp_path / "whole")


def test_a_finished_run_asks_the_engine_for_nothing(tmp_path, samples, recording, greedy):
    """The run directory is a cache: the same command again makes no rollout."""
    roll(ReplayEngine(recording), samples, tmp_path / "run", greedy)
    engine = CountingEngine(recording)
    outcome = roll(engine, samples, tmp_path / "run", greedy)
    assert engine.asked == []
    assert outcome.status == "complete"


def test_a_torn_last_line_is_redone(tmp_path, samples, recording, greedy):
    """Half a line, as a kill leaves it, is cut off and its id made again."""
    out = tmp_path / "run"
    roll(ReplayEngine(recording), samples, out, greedy)
    whole = (out / "rollouts.jsonl").read_bytes()
    (out / "rollouts.jsonl").write_bytes(whole[:-25])
    engine = CountingEngine(recording)
    roll(engine, samples, out, greedy)
    assert engine.asked == [("im11", 0)]
    assert (out / "rollouts.jsonl").read_bytes() == whole


def test_lines_out_of_order_are_put_into_dataset_order(tmp_path, samples, recording, greedy):
    """An engine may finish in any order; the file is in dataset order all the same."""

    class Backwards(ReplayEngine):
        def generate(self, requests):
            yield from super().generate(requests[::-1])

    roll(Backwards(recording), samples, tmp_path / "run", greedy)
    assert ids(tmp_path / "run") == [sample.id for sample in samples]


@pytest.mark.parametrize(
    "change", [{"frame": "unit-1000"}, {"checkpoint": {"path": "/a/b", "name": "b", "hash": "h2"}}]
)
def test_a_run_of_other_settings_is_refused(tmp_path, samples, recording, greedy, change):
    """Another checkpoint's or other settings' run is never mixed into."""
    roll(ReplayEngine(recording), samples, tmp_path / "run", greedy)
    with pytest.raises(RunMismatchError, match=next(iter(change))):
        roll(ReplayEngine(recording), samples, tmp_path / "run", greedy, identity=IDENTITY | change)


def test_a_moved_checkpoint_is_the_same_checkpoint(tmp_path, samples, recording, greedy):
    """The content counts, not the path; the first path stays in run.json."""
    out = tmp_path / "run"
    roll(ReplayEngine(recording), samples, out, greedy)
    moved = IDENTITY | {"checkpoint": {"path": "/elsewhere", "name": "e", "hash": "h1"}}
    assert roll(ReplayEngine(recording), samples, out, greedy, identity=moved).status == "complete"
    assert json.loads((out / "run.json").read_text())["checkpoint"]["path"] == "/a/b"


def test_two_writers_do_not_share_a_run(tmp_path, samples, recording, greedy):
    """A run that is being written is locked."""
    with (
        RunWriter(tmp_path / "run", identity=IDENTITY, extra={}),
        pytest.raises(RunLockedError),
    ):
        roll(ReplayEngine(recording), samples, tmp_path / "run", greedy)


def test_missing_recordings_are_error_lines_and_can_be_redone(tmp_path, samples, recording, greedy):
    """Errors get a line each and exit code 3; only --retry-errors makes them anew."""
    partial = tmp_path / "partial.jsonl"
    kept = recording.read_text(encoding="utf-8").splitlines()[:20]
    partial.write_text("\n".join(kept) + "\n", encoding="utf-8")
    out = tmp_path / "run"
    outcome = roll(ReplayEngine(partial), samples, out, greedy)
    assert outcome.counts["errors"] == 2
    assert (outcome.exit_code(), outcome.exit_code(max_errors=2)) == (3, 0)
    bad = lines(out)[-1]
    assert (bad["finish_reason"], bad["text"]) == ("error", "")
    assert "no recorded line" in bad["error"]
    engine = CountingEngine(recording)
    assert roll(engine, samples, out, greedy).counts["errors"] == 2
    assert engine.asked == []
    healed = roll(engine, samples, out, greedy, retry_errors=True)
    assert engine.asked == [("im10", 0), ("im11", 0)]
    assert (healed.counts["errors"], healed.exit_code()) == (0, 0)
    assert ids(out) == [sample.id for sample in samples]


def test_retrying_does_not_touch_another_settings_run(tmp_path, samples, recording, greedy):
    """A refused command leaves the error lines of the run where they are."""
    out = tmp_path / "run"
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    roll(ReplayEngine(empty), samples, out, greedy)
    before = (out / "rollouts.jsonl").read_bytes()
    with pytest.raises(RunMismatchError):
        roll(
            ReplayEngine(recording),
            samples,
            out,
            greedy,
            identity=IDENTITY | {"frame": "unit-1000"},
            retry_errors=True,
        )
    assert (out / "rollouts.jsonl").read_bytes() == before


def test_several_samples_make_a_line_each(tmp_path, samples, recording):
    """K rollouts per image have K lines, told apart by their index."""
    sampled = DecodeSettings(max_new_tokens=8, temperature=1.0, samples=2)
    roll(ReplayEngine(recording), samples, tmp_path / "run", sampled)
    keys = [(line["id"], line["sample_index"]) for line in lines(tmp_path / "run")]
    assert keys == [(sample.id, index) for sample in samples for index in range(2)]


def test_no_samples_is_not_a_success(tmp_path, recording, greedy):
    """A run of nothing ends with exit code 3."""
    assert roll(ReplayEngine(recording), [], tmp_path / "run", greedy).exit_code() == 3


def test_an_engine_that_loses_a_request_leaves_an_incomplete_run(
    tmp_path, samples, recording, greedy
):
    """Ids without a line are found out by counting, not by trust in the engine."""

    class Lossy(ReplayEngine):
        def generate(self, requests):
            yield from super().generate(requests[:-1])

    outcome = roll(Lossy(recording), samples, tmp_path / "run", greedy)
    assert (outcome.status, outcome.missing) == ("incomplete", (("im11", 0),))
    assert outcome.exit_code() == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "incomplete"


def test_an_engine_that_answers_twice_is_stopped(tmp_path, samples, recording, greedy):
    """A second answer to one request never reaches the file."""

    class Stuttering(ReplayEngine):
        def generate(self, requests):
            for batch in super().generate(requests):
                yield batch
                yield batch

    with pytest.raises(RuntimeError, match="twice"):
        roll(Stuttering(recording), samples, tmp_path / "run", greedy)
    assert len(ids(tmp_path / "run")) == len(set(ids(tmp_path / "run")))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_progress_counts_what_is_done_and_what_is_dropped(tmp_path, samples, recording, greedy):
    """The last snapshot agrees with the run, resumed lines included."""
    seen = []
    engine = CountingEngine(recording, stop_after=2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        roll(engine, samples, tmp_path / "run", greedy)
    roll(ReplayEngine(recording), samples, tmp_path / "run", greedy, on_progress=seen.append)
    assert (seen[0].done, seen[0].made, seen[0].drop_rate) == (4, 0, None)
    assert (seen[-1].done, seen[-1].total, seen[-1].made) == (12, 12, 8)
    assert seen[-1].objects_found == sum(len(sample.objects) for sample in samples[4:])
    assert seen[-1].drop_rate == 0.0
    assert seen[-1].tokens == 24


def test_seeds_depend_on_seed_id_and_index_alone(samples):
    """Every rollout has its own stream, the same in any order and selection."""
    settings = DecodeSettings(max_new_tokens=1, temperature=1.0, samples=3, seed=5)
    all_seeds = {request.key: request.seed for request in make_requests(samples, settings)}
    some = make_requests(samples[5:1:-1], settings)
    assert all(all_seeds[request.key] == request.seed for request in some)
    assert len(set(all_seeds.values())) == len(all_seeds)
    other = make_requests(samples, replace(settings, seed=6))
    assert not set(all_seeds.values()) & {request.seed for request in other}
    assert request_seed(5, "im0", 1) == all_seeds["im0", 1]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"samples": 0, "temperature": 1.0},
        {"samples": 2, "sample_temperature": 0.0},
        {"samples": 2, "sample_temperature": float("inf")},
    ],
)
def test_decode_settings_out_of_range_are_refused(settings):
    """Settings without a meaning are usage errors; so are several samples that would be equal."""
    with pytest.raises(ConfigError):
        DecodeSettings(**({"max_new_tokens": 8} | settings))


def test_error_lines_are_one_line_of_bounded_length(samples, greedy):
    """A stack of text in an exception becomes one readable line."""
    request = make_requests(samples[:1], greedy)[0]
    rollout = error_rollout(request, "a\nb " + "x" * 5000)
    assert rollout.error.startswith("a b x")
    assert len(rollout.error) <= 1000
    assert new_rollout(request, "t").gt == samples[0].objects


def test_a_recording_with_an_id_twice_is_refused(tmp_path, recording):
    """Which of two lines to serve is not guessed."""
    double = tmp_path / "double.jsonl"
    double.write_bytes(recording.read_bytes() * 2)
    with pytest.raises(DataError, match="twice"):
        ReplayEngine(double)


SCRIPT = """
import sys
from pathlib import Path
from coordeval.data.dataset import open_dataset
from coordeval.engines.base import DecodeSettings
from coordeval.engines.interrupts import Interrupted, interrupt_guard
from coordeval.engines.replay import ReplayEngine
from coordeval.engines.runner import run_rollouts
from coordeval.parsers.dialects import dialect_named

data, recording, out, delay = sys.argv[1:]
engine = ReplayEngine(Path(recording), batch_size=1, delay_s=float(delay))
try:
    outcome = run_rollouts(
        engine, list(open_dataset(data)), out=Path(out), identity={"frame": "coordexp"}, extra={},
        decode=DecodeSettings(max_new_tokens=256), dialect=dialect_named("coordjson"),
        handle_signals=True,
    )
except Interrupted as stop:
    sys.exit(stop.exit_code)
sys.exit(outcome.exit_code())
"""


def start(dataset_path, recording, out, delay):
    arguments = [str(part) for part in (dataset_path, recording, out, delay)]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments])


def wait_for_lines(out, count, process):
    path = out / "rollouts.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the rollout wrote nothing in time")


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (signal.SIGKILL, -signal.SIGKILL, "running"),
        (signal.SIGTERM, 143, "interrupted"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_signal_loses_at_most_the_batch_under_way(
    tmp_path, dataset_path, recording, number, code, status
):
    """Killed, terminated or interrupted: the same command ends with the same file as unharmed."""
    out = tmp_path / "run"
    process = start(dataset_path, recording, out, 0.2)
    wait_for_lines(out, 3, process)
    os.kill(process.pid, number)
    assert process.wait(timeout=60) == code
    written = len(ids(out))
    assert 3 <= written < 12
    assert json.loads((out / "run.json").read_text())["status"] == status
    assert start(dataset_path, recording, out, 0).wait(timeout=60) == 0
    assert start(dataset_path, recording, tmp_path / "whole", 0).wait(timeout=60) == 0
    assert lines(out) == lines(tmp_path / "whole")


def test_signal_handlers_are_put_back(tmp_path, samples, recording, greedy):
    """After a run, Ctrl-C means what it meant before; an interruption is raised, not swallowed."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    class Suicidal(ReplayEngine):
        def generate(self, requests):
            for batch in super().generate(requests):
                yield batch
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        roll(Suicidal(recording), samples, tmp_path / "run", greedy, handle_signals=True)
    assert caught.value.exit_code == 143
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert len(ids(tmp_path / "run")) == 8


def test_a_signal_never_strikes_in_the_middle_of_a_write():
    """While a write is under way the signal waits, and then is not forgotten."""
    steps = []

    def write_in_two_steps():
        with interrupt_guard(enabled=True) as guard:
            with guard.holding():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
                steps.append("written")
            steps.append("never")

    with pytest.raises(Interrupted) as caught:
        write_in_two_steps()
    assert steps == ["written"]
    assert caught.value.exit_code == 130


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path, samples, recording, greedy):
    """In-process callers on threads can ask for signal handling without harm."""
    outcomes = []

    def work():
        outcomes.append(
            roll(ReplayEngine(recording), samples, tmp_path / "run", greedy, handle_signals=True)
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes[0].status == "complete"
