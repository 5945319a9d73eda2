"""Training rollouts by vLLM, beside the training and behind a server: those of the model itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TRAINING = Path(__file__).parents[1] / "training"
sys.path[:0] = [str(TRAINING), str(TRAINING / "stage2")]

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

FIXTURES = Path(__file__).parents[2] / "fixtures"
DECODE = {"max_new_tokens": 96}


def disturbed(model):
    """Other weights: the answers of the last ones are no longer right."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "down_proj" in name:
                parameter.mul_(1.15)


def test_vllm_beside_the_training_writes_what_the_model_writes(tmp_path, monkeypatch):
    """Greedy rollouts of every step's weights, views, a failure in the middle; nothing disturbed."""
    import torch
    from rollout_setup import answers, channel_of, parts_of, rollouts_of, window

    options = {"views": 2, "decode": DECODE | {"loop_guard": "mark"}}
    parts = parts_of(FIXTURES / "ckpt-2400", tmp_path / "hf", rollout=options)
    beside = parts_of(
        FIXTURES / "ckpt-2400", tmp_path / "vllm", rollout=options | {"engine": "vllm"}
    )
    model, samples = parts.model.train(), parts.train.samples[:6]
    hf, vllm = rollouts_of(parts), rollouts_of(beside, model=model)
    channel = channel_of(beside, model=model)
    channel._rollouts = vllm
    texts = []
    try:
        for step in range(2):
            torch.manual_seed(step)
            random_state = torch.get_rng_state()
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            found = vllm.roll(model, samples, step=step)
            assert torch.equal(torch.get_rng_state(), random_state)
            assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
            assert model.training
            wanted = hf.roll(model, samples, step=step)
            first = answers([views[:1] for views in found])
            assert first == answers([views[:1] for views in wanted])
            assert [views[1].sample_index for views in found] == [1] * 6
            assert all(views[0].prompt_tokens == views[1].prompt_tokens for views in found)
            texts.append(first)
            disturbed(model)
        assert texts[0] != texts[1]
        (batch,) = channel.prepare(window(beside, (0, 1)), 2)
        assert batch["sample_ids"] == ["0000", "0000", "0001", "0001"]
        _after_a_failure(vllm, hf, model, samples)
    finally:
        channel.close()
    assert not (tmp_path / "vllm" / ".rollout_vllm").exists()


def _after_a_failure(vllm, hf, model, samples):
    """Started anew after a failure, vLLM has the weights of now, not those of its first start."""
    from rollout_setup import answers

    engine = vllm._engine._beside._engine
    stepping, finished, lost = engine._step, [], []

    def fail_once(running):
        if finished and not lost:
            lost.append(len(running))
            raise RuntimeError("out of luck")
        done = stepping(running)
        finished.extend(done)
        return done

    engine._step = fail_once
    engine._arguments["max_num_seqs"] = 1  # so that some are asked only after the failure
    found = vllm.roll(model, samples, step=3)
    engine._step = stepping
    flat = [view for views in found for view in views]
    assert sum(view.failed for view in flat) == lost[0] < len(flat) - 1
    wanted = [views[:1] for views in hf.roll(model, samples, step=3)]
    kept = {line[0]: line for line in answers([[v] for v in flat if not v.failed]) if not line[1]}
    assert len(kept) >= 3
    assert kept.items() <= {line[0]: line for line in answers(wanted)}.items()


def test_a_server_gets_the_weights_of_every_step(tmp_path, monkeypatch):
    """A real server reads the folder that it is told to, and drops what it had cached."""
    import torch
    from rollout_setup import answers, parts_of, rollouts_of
    from test_vllm_server import NAME, RealServer

    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    server = RealServer(tmp_path / "server.log")
    try:
        options = {"decode": DECODE}
        parts = parts_of(FIXTURES / NAME, tmp_path / "hf", rollout=options)
        served = parts_of(
            FIXTURES / NAME,
            tmp_path / "served",
            rollout=options | {"engine": "server", "server": server.url},
        )
        model, samples = parts.model, parts.train.samples[:4]
        notes = []
        hf = rollouts_of(parts)
        behind = rollouts_of(served, model=model, notify=notes.append)
        texts = []
        for step in range(2):
            found = answers(behind.roll(model, samples, step=step))
            assert found == answers(hf.roll(model, samples, step=step))
            texts.append(found)
            disturbed(model)
        assert texts[0] != texts[1]
        behind.close()
        assert all("max-new-tokens" in note for note in notes), notes
        assert torch.is_grad_enabled()
    finally:
        server.kill()
