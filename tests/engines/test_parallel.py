"""Several engines side by side: the same rollouts, whatever happens to a worker."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from coordeval.engines.base import DecodeSettings, Request
from coordeval.engines.parallel import cut_into_pieces, device_shares
from coordeval.records import Sample

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def requests(count):
    """Requests of empty samples."""
    return [
        Request(
            sample=Sample(id=str(i), image="x.png", width=8, height=8, objects=()),
            sample_index=0,
            seed=i,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [1, 8, 500])
def test_pieces_hold_every_request_once_in_order(count, workers, batch):
    """Cutting loses nothing, repeats nothing, and leaves work for every engine where it can."""
    asked = requests(count)
    pieces = cut_into_pieces(asked, workers, batch)
    assert [r for piece in pieces for r in piece.waiting.values()] == asked
    assert len(pieces) >= min(workers, count) or count < workers


@pytest.mark.parametrize(
    ("engines", "per_engine", "visible", "shares"),
    [
        (2, 1, "0,1", ["0", "1"]),
        (2, 2, "4,5,6,7", ["4,5", "6,7"]),
        (2, 1, "GPU-a", ["GPU-a", "GPU-a"]),
        (3, 1, "0,1", ["0", "1", "0"]),
        (2, 1, "", [None, None]),
    ],
)
def test_engines_share_the_visible_devices(engines, per_engine, visible, shares):
    """Each engine sees its own devices, in the order of the node's list."""
    assert device_shares(engines, per_engine, visible) == shares


def roll(tmp_path, name, **changes):
    """Roll the fixture checkpoint out on 12 scenes; its outcome and lines by id."""
    from coordeval.engines.job import rollout_checkpoint
    from coordeval.engines.options import RolloutOptions
    from coordeval.runs import open_run

    notes = []
    options = RolloutOptions(
        checkpoint=str(FIXTURES / "ckpt-2400"),
        data=FIXTURES / "scenes" / "heldout.jsonl",
        runs_dir=tmp_path,
        out=tmp_path / name,
        engine="hf",
        batch_size=2,
        limit=12,
        max_new_tokens=64,
        dtype="fp32",
        **{key: value for key, value in changes.items() if key != "on_progress"},
    )
    outcome = rollout_checkpoint(
        options, on_progress=changes.get("on_progress"), notify=notes.append
    )
    return outcome, {line.id: line for line in open_run(outcome.path).rollouts()}, notes


@pytest.mark.slow
def test_two_engines_write_what_one_writes(tmp_path):
    """A run by two engines equals that of one, token for token, in the dataset's order."""
    one, lines, _ = roll(tmp_path, "one")
    two, others, _ = roll(tmp_path, "two", data_parallel=2)
    assert one.exit_code() == two.exit_code() == 0
    assert list(lines) == list(others)
    assert all(lines[key].token_ids == others[key].token_ids for key in lines)


@pytest.mark.slow
def test_a_killed_engine_costs_nothing(tmp_path):
    """The requests of a worker that is killed go to the other one; every id has one line."""
    import multiprocessing

    killed = []

    def kill_one(progress):
        if not killed and progress.done:
            victim = multiprocessing.active_children()[0]
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    outcome, lines, notes = roll(tmp_path, "run", data_parallel=2, on_progress=kill_one)
    assert killed
    assert outcome.exit_code() == 0
    assert Counter(line.finish_reason == "error" for line in lines.values()) == {False: 12}
    assert any("died" in note for note in notes)


@pytest.mark.slow
def test_an_engine_that_cannot_start_says_why(tmp_path):
    """An error of the user that only workers meet is raised as what it is, not as lost rollouts."""
    from coordeval.errors import CoordevalError

    broken = tmp_path / "ckpt"
    broken.mkdir()
    for item in (FIXTURES / "ckpt-300").iterdir():
        (broken / item.name).write_bytes(item.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    from coordeval.engines.job import rollout_checkpoint
    from coordeval.engines.options import RolloutOptions

    options = RolloutOptions(
        checkpoint=str(broken),
        data=FIXTURES / "scenes" / "heldout.jsonl",
        runs_dir=tmp_path,
        engine="hf",
        limit=4,
        data_parallel=2,
    )
    with pytest.raises(CoordevalError, match="ckpt"):
        rollout_checkpoint(options)


def test_decode_settings_travel_to_a_worker():
    """What workers are sent can be pickled and comes back equal."""
    import pickle

    settings = DecodeSettings(max_new_tokens=5)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert pickle.loads(pickle.dumps(requests(2))) == requests(2)
