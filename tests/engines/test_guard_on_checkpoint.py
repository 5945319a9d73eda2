"""The loop guard on a checkpoint that was trained into looping: what it saves, and what it keeps."""

from pathlib import Path

import pytest

from coordeval.decoding.settings import GuardSettings
from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.options import RolloutOptions
from coordeval.metrics.score import score_run
from coordeval.parsers import parse
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
BUDGET = 256

pytestmark = pytest.mark.slow


def roll_out(out, mode, name="ckpt-loops"):
    """Greedy float32 rollouts of a fixture checkpoint on the held-out scenes."""
    options = RolloutOptions(
        checkpoint=str(FIXTURES / name),
        data=FIXTURES / "scenes" / "heldout.jsonl",
        runs_dir=out,
        out=out / f"{name}-{mode}",
        engine="hf",
        batch_size=64,
        dtype="fp32",
        device="cpu",
        max_new_tokens=BUDGET,
        guard=GuardSettings(mode=mode),
    )
    outcome = rollout_checkpoint(options)
    assert outcome.exit_code(0) == 0
    return open_run(outcome.path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The looping checkpoint with the guard off, marking, and stopping."""
    out = tmp_path_factory.mktemp("guard")
    return {mode: roll_out(out, mode) for mode in ("off", "mark", "stop")}


@pytest.fixture(scope="module")
def metrics(runs):
    return {mode: score_run(run).metrics for mode, run in runs.items()}


@pytest.fixture(scope="module")
def pairs(runs):
    """(free, stopped) rollouts of the same image."""
    free = {line.id: line for line in runs["off"].rollouts()}
    return [(free[line.id], line) for line in runs["stop"].rollouts()]


def test_guard_fires_on_every_kind_of_loop(pairs):
    """A fair share of the scenes is stopped: exact, block-wise and near repeats among them."""
    kinds = [line.guard["kind"] for _, line in pairs if line.finish_reason == "loop_guard"]
    assert len(pairs) == 64
    assert 16 <= len(kinds) <= 40
    assert {"exact", "block", "near"} <= set(kinds)


def test_a_stopped_rollout_is_the_beginning_of_the_free_one(pairs):
    """Token ids, text and log-probabilities are a prefix; what is missing was not generated."""
    for free, stopped in pairs:
        if stopped.finish_reason != "loop_guard":
            continue
        count = len(stopped.token_ids)
        assert count < len(free.token_ids)
        assert stopped.token_ids == free.token_ids[:count]
        assert free.text.startswith(stopped.text)
        assert len(stopped.token_logprobs) == count
        assert stopped.token_logprobs == pytest.approx(free.token_logprobs[:count], abs=1e-4)
        assert stopped.guard["tokens_saved"] == BUDGET - count > 0
        assert 0 <= stopped.guard["onset"] < stopped.guard["at"] == count


def test_honest_scenes_are_left_alone_token_for_token(pairs):
    """Where the guard does not fire, tokens, text and finish reason are those of free decoding."""
    honest = [pair for pair in pairs if pair[1].finish_reason != "loop_guard"]
    assert len(honest) >= 24
    for free, line in honest:
        assert line.guard is None
        assert (line.token_ids, line.text, line.finish_reason) == (
            free.token_ids,
            free.text,
            free.finish_reason,
        )


def test_every_free_loop_to_the_limit_is_caught(pairs):
    """No rollout runs into the token limit any more, and none that ended by itself is cut."""
    assert sum(free.finish_reason == "length" for free, _ in pairs) >= 16
    for free, stopped in pairs:
        assert (stopped.finish_reason == "loop_guard") == (free.finish_reason == "length")


def test_every_object_before_the_repeats_is_kept(pairs):
    """The reader finds in a stopped text the free text's first records, the whole loop's included."""
    for free, stopped in pairs:
        before, after = parse(free.text).objects, parse(stopped.text).objects
        assert [o.values for o in after] == [o.values for o in before[: len(after)]]
        if stopped.finish_reason == "loop_guard" and stopped.guard["kind"] in {"exact", "block"}:
            distinct = [{(o.desc, o.values) for o in objects} for objects in (before, after)]
            assert distinct[0] == distinct[1]


def test_tokens_are_saved_and_f1_is_kept(metrics, pairs):
    """A fifth of all tokens goes; recall stays what it was, F1 rises, F1 without repeats no lower."""
    free, stop = metrics["off"], metrics["stop"]
    saved = sum(line.guard["tokens_saved"] for _, line in pairs if line.guard)
    assert saved == free["tokens/total"] - stop["tokens/total"]
    assert saved >= free["tokens/total"] / 5
    assert stop["f1/0.50/recall"] == free["f1/0.50/recall"]
    assert stop["f1/0.50/f1"] > free["f1/0.50/f1"]
    assert stop["f1_dedup/0.50/f1"] >= free["f1_dedup/0.50/f1"]
    assert stop["samples/truncated_rate"] == 0


def test_mark_notes_and_changes_nothing(runs, pairs):
    """Mode `mark` writes what free decoding writes, and stores what `stop` would have seen."""
    stopped = {line.id: line for _, line in pairs}
    free = {line.id: line for line, _ in pairs}
    for line in runs["mark"].rollouts():
        assert line.token_ids == free[line.id].token_ids
        assert line.finish_reason == free[line.id].finish_reason
        guard = stopped[line.id].guard
        assert line.guard == (guard and guard | {"tokens_saved": 0})


def test_sound_checkpoint_is_never_stopped(tmp_path):
    """The sound fixture checkpoint writes the same with the guard as its recorded free run."""
    recorded = {r.id: r for r in open_run(FIXTURES / "runs" / "shapes-final").rollouts()}
    lines = list(roll_out(tmp_path, "stop", "shapes-final").rollouts())
    assert all(line.guard is None and line.finish_reason == "stop" for line in lines)
    same = sum(line.text == recorded[line.id].text for line in lines)
    assert same >= 62  # floating point may decide a token or two elsewhere
