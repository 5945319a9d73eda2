"""Rolling out on a cluster and on one machine, and what it means that they wrote the same."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import psutil

from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.options import RolloutOptions
from coordeval.runs import open_run

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCENES = FIXTURES / "scenes" / "heldout.jsonl"
POISON = "poison.png"

# A worker that opens the poisoned image is killed on the spot, as a fault of the machine would;
# where LAME is set, it cannot open an engine.
HARM = f"""
import os, signal, sys
def _harm(event, arguments):
    if event == "open" and str(arguments[0]).endswith({POISON!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "import" and arguments[0] == "transformers" and "LAME" in os.environ:
        raise OSError("the disk is gone")
sys.addaudithook(_harm)
"""


def roll(out, *, address=None, on_progress=None, **changes):
    """Roll ckpt-2400 out; its outcome, the lines of the run in order, and the warnings."""
    notes = []
    values = {
        "checkpoint": str(FIXTURES / "ckpt-2400"),
        "data": SCENES,
        "runs_dir": out.parent,
        "out": out,
        "engine": "hf" if address is None else "ray",
        "batch_size": 2,
        "limit": 12,
        "max_new_tokens": 128,
    }
    if address is not None:
        values |= {"ray_address": address, "replicas": 2, "inner": "hf"}
    options = RolloutOptions(**(values | changes))
    outcome = rollout_checkpoint(options, on_progress=on_progress, notify=notes.append)
    return outcome, list(open_run(out).rollouts()), notes


def keys_on_disk(out):
    """(id, sample index) of every line as it stands in the file."""
    lines = (out / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    return [(raw["id"], raw.get("sample_index", 0)) for raw in map(json.loads, lines)]


def assert_same(lines, others):
    """The same ids once each, in the same order, with the same tokens, texts and ground truth."""
    ids = [line.id for line in lines]
    assert ids == [line.id for line in others] and len(set(ids)) == len(ids)
    for one, other in zip(lines, others, strict=True):
        assert one.error == other.error
        assert one.token_ids == other.token_ids, one.id
        assert one.text == other.text
        assert one.finish_reason == other.finish_reason
        assert one.gt == other.gt
        assert one.image == other.image


def replicas():
    """The processes that hold engines at this moment, in clusters of this test process alone."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # gone since it was listed
            words = process.cmdline() or [""]
            if words[0].startswith("ray::MapWorker(MapBatches(Replica))"):
                found.append(process)
    return found
