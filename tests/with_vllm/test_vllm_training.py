"""vLLM beside a training: it gets the weights of every evaluated step, and disturbs nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def lines_of(run):
    return [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]


def test_refreshed_weights_write_what_the_training_itself_writes(tmp_path):
    """Evaluations at steps 0, 2 and 4 equal those in process; training is as without them."""
    import torch
    from live_training import callback, make_trainer, tiny_model

    from coordeval.metrics.catalogue import describe

    trainers, notes = {}, []
    for engine in ("hf", "vllm", None):
        model = tiny_model(head_dim=32)  # vLLM's attention on the CPU has no narrower heads
        made = []
        if engine is not None:
            made = [callback(model, at_start=True, engine=engine, notify=notes.append)]
        trainers[engine] = make_trainer(tmp_path / str(engine), model, made)
        trainers[engine].train()
    assert all("max-new-tokens" in note for note in notes), notes
    texts = []
    for step in (0, 2, 4):
        ones, others = (
            lines_of(tmp_path / engine / "eval" / f"step_{step:06d}") for engine in ("hf", "vllm")
        )
        assert [row["token_ids"] for row in ones] == [row["token_ids"] for row in others]
        for one, other in zip(ones, others, strict=True):
            assert one["token_logprobs"] == pytest.approx(other["token_logprobs"], abs=1e-3)
        texts.append([row["text"] for row in ones])
    assert texts[0] != texts[1]
    rows = {
        engine: [row for row in trainer.state.log_history if "eval_rollout/seconds" in row]
        for engine, trainer in trainers.items()
    }
    assert [row["step"] for row in rows["vllm"]] == [0, 2, 4]
    for one, other in zip(rows["hf"], rows["vllm"], strict=True):
        for key, value in one.items():
            if describe(key.removeprefix("eval_rollout/")) is not None:
                assert other[key] == pytest.approx(value, abs=1e-3), key
    states = [trainer.model.state_dict() for trainer in trainers.values()]
    for name, tensor in states[0].items():
        assert all(torch.equal(tensor, state[name]) for state in states[1:]), name
    losses = [
        [row for row in trainer.state.log_history if "loss" in row] for trainer in trainers.values()
    ]
    assert losses[0] == losses[1] == losses[2]
    assert not (tmp_path / "vllm" / "eval" / ".vllm").exists()
