"""Telling sharded weights, with stand-ins for what is not installed here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from live_training import callback, make_trainer, tiny_model

from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.sharded import check_gatherable, gathered_state, sharding_of


class Placed(torch.nn.Parameter):
    """A parameter that says how it lies, as a DTensor does."""


def placed(*shards):
    parameter = Placed(torch.zeros(2))
    parameter.placements = tuple(SimpleNamespace(is_shard=lambda s=s: s) for s in shards)
    return parameter


def holder(parameter):
    module = torch.nn.Module()
    module.weight = parameter
    return module


def test_whole_weights_are_not_sharded():
    """A plain model, and one whose parameters are replicated, are decoded in process."""
    assert sharding_of(tiny_model()) == "none"
    assert sharding_of(holder(placed(False))) == "none"


def test_shards_are_seen():
    """DTensors with a sharded placement, and ZeRO-3's partitioned parameters."""
    assert sharding_of(holder(placed(False, True))) == "fsdp"
    parameter = torch.nn.Parameter(torch.zeros(0))
    parameter.ds_id = 3
    assert sharding_of(holder(parameter)) == "zero3"


def test_zero3_is_gathered_by_the_trainers_accelerator():
    """DeepSpeed's engine knows how; without the trainer it is refused at the start."""
    parameter = torch.nn.Parameter(torch.zeros(0))
    parameter.ds_id = 3
    model = holder(parameter)
    with pytest.raises(ConfigError, match="trainer"):
        check_gatherable(model, None)
    asked = []

    def get_state_dict(wrapped):
        asked.append(wrapped)
        return {"weight": torch.ones(1)}

    accelerator = SimpleNamespace(get_state_dict=get_state_dict)
    trainer = SimpleNamespace(accelerator=accelerator, model_wrapped="engine")
    check_gatherable(model, trainer)
    assert gathered_state(model, trainer) == {"weight": torch.ones(1)} and asked == ["engine"]
    accelerator.get_state_dict = lambda _: None  # beyond process 0
    assert gathered_state(model, trainer) == {}


def test_adapters_in_shards_are_refused(tmp_path):
    """They could not be merged; better told at the start than after the first interval."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    next(model.parameters()).ds_id = 1
    with pytest.raises(ConfigError, match="adapters under zero3"):
        check_gatherable(model, None)


def test_vllm_beside_several_processes_is_refused(tmp_path):
    """Its process groups and the training's would meet."""
    from coordeval.errors import CoordevalError
    from coordeval.training.rollout_eval import vllm_engine as eval_vllm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: object())
        for world, sharding in ((2, "none"), (1, "fsdp")):
            with pytest.raises(ConfigError, match="process"):
                eval_vllm.check_vllm(world=world, sharding=sharding)
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(CoordevalError, match="vllm"):
            eval_vllm.check_vllm(world=1, sharding="none")
    assert make_trainer(tmp_path, tiny_model(), [callback(tiny_model())]) is not None
