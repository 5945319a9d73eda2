"""The fixture checkpoints tell the story they are there for, decoded freely on held-out scenes."""

from pathlib import Path

import pytest
import torch

from coordeval.data.dataset import open_dataset
from coordeval.data.prompts import default_prompt
from coordeval.engines.base import DecodeSettings, Request
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf import HfEngine
from coordeval.engines.hf_loading import load_model, load_reader
from coordeval.jsonl import dump_line
from coordeval.metrics.score import score_run
from coordeval.parsers.dialects import dialect_named
from coordeval.runs import open_run, rollout_to_json

FIXTURES = Path(__file__).parents[2] / "fixtures"

pytestmark = pytest.mark.slow


def roll_out(name, out_dir, data="heldout", max_new_tokens=256):
    """Greedy float32 rollouts of a fixture checkpoint, as a bare file of rollout lines."""
    checkpoint = resolve_checkpoint(str(FIXTURES / name))
    cpu = torch.device("cpu")
    engine = HfEngine(
        reader=load_reader(checkpoint),
        load=lambda: load_model(checkpoint, device=cpu, dtype=torch.float32),
        prompt=default_prompt(dialect=dialect_named("coordjson")),
        decode=DecodeSettings(max_new_tokens=max_new_tokens),
        dtype="float32",
        batch_size=32,
    )
    samples = open_dataset(FIXTURES / "scenes" / f"{data}.jsonl").iter_samples()
    requests = [Request(sample=sample, sample_index=0, seed=0) for sample in samples]
    path = out_dir / f"{name}.jsonl"
    with path.open("wb") as handle:
        for batch in engine.generate(requests):
            handle.writelines(dump_line(rollout_to_json(rollout)) for rollout in batch)
    return path


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """Metrics of all three checkpoints on the held-out scenes."""
    out = tmp_path_factory.mktemp("rollouts")
    return {
        name: score_run(open_run(roll_out(name, out))).metrics
        for name in ("ckpt-300", "ckpt-2400", "shapes-final")
    }


def test_sound_checkpoints_detect(metrics):
    """The early checkpoint reaches F1@.5 of 0.8, the final one 0.9, and nothing is dropped."""
    assert metrics["ckpt-300"]["f1/0.50/f1"] >= 0.8
    assert metrics["shapes-final"]["f1/0.50/f1"] >= 0.9
    for name in ("ckpt-300", "shapes-final"):
        assert metrics[name]["samples/total"] == 64
        assert metrics[name]["samples/conforming_rate"] >= 0.95
        assert metrics[name]["dup/loop_samples"] == 0


def test_later_checkpoint_is_degraded(metrics):
    """It writes foreign tokens into slots, drifted keys and loops, and loses recall by them."""
    early, late = metrics["ckpt-300"], metrics["ckpt-2400"]
    assert late["parse/dropped/wrong_arity"] >= 10
    assert late["parse/detail/wrong_arity/foreign_token"] >= 10
    assert late["parse/dropped/unexpected_keys"] >= 3
    assert late["dup/loop_samples"] >= 2
    assert 0.4 <= late["samples/conforming_rate"] <= 0.8
    assert late["f1/0.50/f1"] <= early["f1/0.50/f1"] - 0.1
    assert late["f1/0.50/recall"] <= early["f1/0.50/recall"] - 0.1
    assert late["coco/AP"] <= early["coco/AP"] - 0.05
