"""Training rollouts: what they write, on what they depend, and what they leave alone."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rollout_setup import (
    FIXTURES,
    answers,
    channel_of,
    from_command,
    parts_of,
    rollouts_of,
    window,
)
from stage1_setup import tiny_base

from coordeval.engines.base import new_rollout, request_seed
from coordeval.errors import ConfigError
from coordeval.training.data.batches import to_device
from coordeval.training.stage2.rollouts import step_seed

LENGTH = {"max_new_tokens": 256}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint with random weights."""
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def tiny(base, tmp_path):
    """Makes the parts of a training of the tiny model."""
    return lambda **options: parts_of(base, tmp_path / "run", **options)


GREEDY = {
    "shapes-final": {},
    "ckpt-2400": {},
    "ckpt-loops": {"loop_guard": "stop", "guard_exact": 3},
    "ckpt-300": {"constrain": "grammar", "repetition_penalty": 1.05},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GREEDY)
def test_greedy_rollouts_are_those_of_the_command(name, tmp_path):
    """Same weights: `coordeval rollout` writes the same tokens, text, ends and guards."""
    decode = LENGTH | GREEDY[name]
    parts = parts_of(FIXTURES / name, tmp_path / "run", rollout={"decode": decode})
    rollouts = rollouts_of(parts)
    samples = parts.train.samples[:6]
    found = rollouts.roll(parts.model, samples, step=3)
    wanted = from_command(FIXTURES / name, tmp_path / "command", limit=6, **decode)
    assert len(found) == len(wanted) == 6
    for sample, (mine,) in zip(samples, found, strict=True):
        other = wanted[sample.id, 0]
        assert (mine.token_ids, mine.text) == (other.token_ids, other.text)
        assert (mine.finish_reason, mine.guard) == (other.finish_reason, other.guard)
        assert (mine.prompt_tokens, mine.gt) == (other.prompt_tokens, other.gt)
        assert mine.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
    if name == "ckpt-loops":
        assert any(views[0].finish_reason == "loop_guard" for views in found)


@pytest.mark.slow
def test_sampled_rollouts_are_those_of_the_command_with_the_steps_seed(tmp_path):
    """A sampled view depends on nothing but weights, seed, step, sample and view."""
    decode = LENGTH | {"temperature": 0.9, "top_p": 0.95}
    parts = parts_of(
        FIXTURES / "shapes-final",
        tmp_path / "run",
        rollout={"decode": decode, "views": 2, "view_temperature": 1.2, "batch_size": 3},
    )
    found = rollouts_of(parts).roll(parts.model, parts.train.samples[:4], step=5)
    wanted = from_command(
        FIXTURES / "shapes-final",
        tmp_path / "command",
        limit=4,
        seed=step_seed(parts.config.seed, 5),
        samples=2,
        sample_temperature=1.2,
        **decode,
    )
    for views in found:
        for view, mine in enumerate(views):
            assert mine.sample_index == view
            assert mine.token_ids == wanted[mine.id, view].token_ids
    assert any(views[0].token_ids != views[1].token_ids for views in found)


def test_a_request_has_a_seed_by_seed_step_sample_and_view(tiny):
    """Seeds are those of the formula: equal in every order, different in each of the four."""
    parts = tiny(rollout={"views": 3})
    rollouts = rollouts_of(parts)
    seen = []

    def answer(_model, requests):
        seen.append({request.key: request.seed for request in requests})
        return [new_rollout(request, "") for request in requests]

    rollouts._engine = SimpleNamespace(answer=answer, decode=rollouts.decode)
    samples = parts.train.samples[:3]
    rollouts.roll(parts.model, samples, step=4)
    rollouts.roll(parts.model, samples[::-1], step=4)
    rollouts.roll(parts.model, samples, step=5)
    assert seen[0] == seen[1]
    expected = {
        (sample.id, view): request_seed(step_seed(17, 4), sample.id, view)
        for sample in samples
        for view in range(3)
    }
    assert seen[0] == expected
    both = [*seen[0].values(), *seen[2].values()]
    assert len(set(both)) == len(both) == 18
    assert step_seed(17, 4) != step_seed(18, 4)
    assert step_seed(1, 23) != step_seed(12, 3)


def test_rollouts_do_not_depend_on_how_they_are_batched_or_shared_out(tiny):
    """Sampled rollouts are equal one by one, in batches, and in the shares of two processes."""
    decode = {"max_new_tokens": 24, "temperature": 1.0}
    found = []
    for batch_size, shares in ((8, [range(6)]), (1, [range(6)]), (4, [range(0, 6, 2), [1, 3, 5]])):
        parts = tiny(rollout={"decode": decode, "views": 2, "batch_size": batch_size})
        rollouts = rollouts_of(parts)
        lines = {}
        for share in shares:
            samples = [parts.train.samples[number] for number in share]
            for line in answers(rollouts.roll(parts.model, samples, step=2)):
                lines[line[:2]] = line
        found.append(lines)
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 12


def test_the_first_view_is_as_decode_says_and_the_others_are_sampled(tiny):
    """View 0 is greedy, whatever the number of views; others differ from it and one another."""
    decode = {"max_new_tokens": 24}
    one = tiny(rollout={"decode": decode})
    many = tiny(rollout={"decode": decode, "views": 4, "view_temperature": 1.5})
    samples = one.train.samples[:3]
    alone = rollouts_of(one).roll(one.model, samples, step=0)
    together = rollouts_of(many).roll(many.model, samples, step=0)
    assert answers(alone) == answers([views[:1] for views in together])
    for views in together:
        assert [view.sample_index for view in views] == [0, 1, 2, 3]
        texts = [tuple(view.token_ids) for view in views]
        assert len(set(texts)) == 4
    again = rollouts_of(many).roll(many.model, samples, step=1)
    assert answers([views[:1] for views in again]) == answers(alone)
    assert answers([views[1:] for views in again]) != answers([views[1:] for views in together])


def test_the_present_weights_write(tiny):
    """One engine lasts for a whole training, and reads the weights anew at every call."""
    parts = tiny(rollout={"decode": {"max_new_tokens": 16}})
    rollouts = rollouts_of(parts)
    samples = parts.train.samples[:2]
    before = answers(rollouts.roll(parts.model, samples, step=0))
    with torch.no_grad():
        for parameter in parts.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    after = answers(rollouts.roll(parts.model, samples, step=0))
    assert before != after
    assert after == answers(rollouts_of(parts).roll(parts.model, samples, step=0))


def test_adapters_are_in_force(base, tmp_path):
    """A LoRA in training writes what the merged model writes, not what its base does."""
    import copy

    from peft import LoraConfig, get_peft_model

    parts = parts_of(base, tmp_path / "run", rollout={"decode": {"max_new_tokens": 24}})
    samples = parts.train.samples[:3]
    plain = answers(rollouts_of(parts).roll(parts.model, samples, step=0))
    torch.manual_seed(0)
    adapted = get_peft_model(
        copy.deepcopy(parts.model),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], lora_dropout=0.3),
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.5)
    adapted.train()
    found = answers(rollouts_of(parts, model=adapted).roll(adapted, samples, step=0))
    merged = copy.deepcopy(adapted).merge_and_unload()
    wanted = answers(rollouts_of(parts, model=merged).roll(merged, samples, step=0))
    assert found == wanted != plain


def _steps(parts, *, roll, model=None, steps=3):
    """Optimizer steps of two micro-batches in train mode with dropout; gradients and all."""
    from coordeval.training.loop.teacher_forced import TeacherForced

    model = parts.model if model is None else model
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.2
    model.train()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    channel = TeacherForced(model, parts.objective, autocast=torch.enable_grad)
    rollouts = rollouts_of(parts, model=model)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    losses = []
    for step in range(steps):
        for batch in window(parts, (0, 1), (2,)):
            if roll:  # also with gradients half accumulated
                rollouts.roll(model, parts.train.samples[:3], step=step)
            divisors = channel.divisors(channel.counts(batch))
            loss = channel(model, to_device(batch, torch.device("cpu")), divisors).loss
            loss.backward()
            losses.append(float(loss.detach()))
        norm = torch.nn.utils.clip_grad_norm_(learning, 1.0)
        losses.append(float(norm))
        optimizer.step()
        optimizer.zero_grad()
    drawn = (torch.rand(3).tolist(), np.random.rand(), random.random())  # noqa: NPY002
    return losses, {k: v.clone() for k, v in model.state_dict().items()}, drawn


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["plain", "checkpointing", "adapter"])
def test_training_with_unused_rollouts_is_bit_for_bit_training_without(variant, base, tmp_path):
    """Losses, norms, weights and random numbers are equal, with dropout and sampled rollouts."""
    outcomes = []
    for roll in (False, True):
        options = {"decode": {"max_new_tokens": 12, "temperature": 1.0}, "views": 2}
        parts = parts_of(base, tmp_path / "run", rollout=options)
        model = parts.model
        if variant == "adapter":
            from peft import LoraConfig, get_peft_model

            torch.manual_seed(0)
            model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        if variant == "checkpointing":
            model.gradient_checkpointing_enable()
        outcomes.append(_steps(parts, roll=roll, model=model))
    (losses, weights, drawn), (other_losses, other_weights, other_drawn) = outcomes
    assert losses == other_losses
    assert drawn == other_drawn
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert len(set(losses)) > 3


def test_a_process_with_nothing_to_roll_does_nothing(tiny):
    """No request: no rollout, and the model is not even looked at."""
    parts = tiny()
    assert rollouts_of(parts).roll(None, [], step=0) == []


def test_a_sample_that_stands_twice_is_rolled_out_once(tiny):
    """Both places get the same rollouts."""
    parts = tiny(rollout={"decode": {"max_new_tokens": 8}, "views": 2})
    first, second = parts.train.samples[:2]
    found = rollouts_of(parts).roll(parts.model, [first, second, first], step=0)
    assert found[0] == found[2] != found[1]


def test_what_cannot_be_read_is_an_error_line_in_its_place(tiny, tmp_path):
    """A missing image costs its own sample alone."""
    parts = tiny(rollout={"decode": {"max_new_tokens": 8}})
    samples = parts.train.samples[:3]
    broken = replace(samples[1], image_path=tmp_path / "gone.png")
    found = rollouts_of(parts).roll(parts.model, [samples[0], broken, samples[2]], step=0)
    assert [views[0].failed for views in found] == [False, True, False]
    assert "gone.png" in found[1][0].error


REFUSED = {
    "unknown, with the nearest": ({"decode": {"max_new_token": 5}}, "did you mean max_new_tokens"),
    "unknown, far from all": ({"decode": {"beams": 5}}, "known: "),
    "wrong type": ({"decode": {"top_p": "high"}}, r"decode\.top_p"),
    "out of range": ({"decode": {"top_p": 1.5}}, "top-p must be above 0"),
    "not finite": ({"decode": {"temperature": float("inf")}}, "finite"),
    "without effect": ({"decode": {"max_objects": 3}}, "needs --constrain grammar"),
    "views by another name": ({"decode": {"samples": 2}}, "write views"),
    "their temperature": ({"decode": {"sample_temperature": 1.0}}, "view_temperature"),
    "telemetry": ({"decode": {"telemetry": True}}, "no slot telemetry"),
    "engine": ({"decode": {"engine": "vllm"}}, r"rollout\.engine"),
    "of vllm": ({"decode": {"gpu_memory_utilization": 0.3}}, "engine: vllm"),
    "of a server": ({"decode": {"concurrency": 3}}, "engine: server"),
    "classes that are nowhere": ({"decode": {"constrain": "grammar", "classes": "gone"}}, "gone"),
    "server away": (
        {"engine": "server", "server": "http://127.0.0.1:9", "decode": {"retries": 0}},
        "does not answer",
    ),
    "server without scheme": ({"engine": "server", "server": "localhost"}, "http://host:port"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_options_are_refused_before_training(case, tiny):
    """Errors name the section, and come when the rollouts are opened."""
    options, message = REFUSED[case]
    parts = tiny(rollout=options)
    with pytest.raises(ConfigError, match=message) as caught:
        rollouts_of(parts)
    assert str(caught.value).startswith("stage2.channel_b.rollout")
    assert "\n" not in str(caught.value)


def test_vllm_is_missed_before_training(tiny, monkeypatch):
    """Without the package the error says what to install; with several processes, what to choose."""
    from importlib import util

    from coordeval.errors import MissingExtraError
    from coordeval.training.rollout_eval.ranks import Alone

    parts = tiny(rollout={"engine": "vllm"})
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="vllm"):
        rollouts_of(parts)
    monkeypatch.setattr(util, "find_spec", lambda name: object())
    ranks = Alone()
    ranks.world = 2
    with pytest.raises(ConfigError, match="one training process"):
        rollouts_of(parts, ranks=ranks)


def test_sharded_weights_are_refused_where_no_process_has_them_whole(tiny):
    """FSDP with rollouts in process: the error says what to do instead."""
    with pytest.raises(ConfigError, match=r"sharded.*engine: server"):
        rollouts_of(tiny(), sharded=True)


def test_settings_are_those_of_the_training_data(base, tmp_path):
    """Prompt, pixels, dialect and field order come from `data`; the limit from its answers."""
    notes = []
    parts = parts_of(
        base,
        tmp_path / "run",
        data={"field_order": "geometry_first", "pixels": ":3136", "prompt": "open"},
        rollout={"decode": {"seed": 99}},
        notify=notes.append,
    )
    rollouts = rollouts_of(parts, notify=notes.append)
    plan = rollouts._plan
    assert plan.prompt == parts.train.prompt
    assert plan.dialect == parts.train.dialect
    assert plan.dialect.field_order == "geometry_first"
    assert plan.pixels.max_pixels == 3136
    assert plan.seed == 99
    assert rollouts.decode.max_new_tokens == 256
    assert notes == []
    short = parts_of(base, tmp_path / "run", rollout={"decode": {"max_new_tokens": 9}})
    rollouts_of(short, notify=notes.append)
    assert len(notes) == 1
    assert "max-new-tokens 9 is too small" in notes[0]


def test_prompts_in_rollouts_are_those_in_batches(tiny):
    """Rendered ids are the learner's, image tokens counted as one; each rollout read as many."""
    parts = tiny(rollout={"decode": {"max_new_tokens": 4}})
    channel = channel_of(parts)
    batch = window(parts, (0, 1, 2))
    (made,) = channel.prepare(batch, 0)
    assert made["sample_ids"] == batch[0]["sample_ids"]
    rendered = channel._rollouts.prompt_ids
    image = parts.reader.image_token_id
    row = batch[0]["input_ids"][0].tolist()
    collapsed = [one for one, next_ in pairwise([*row, -1]) if not one == next_ == image]
    assert tuple(collapsed[: len(rendered)]) == rendered
