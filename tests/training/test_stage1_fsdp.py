"""FSDP's version 2, in units as accelerate makes them: the objective's gradients are the same."""

import copy
from pathlib import Path

import pytest
import torch
from stage1_setup import SCENES, config, rows, spread, tiny_base, weights
from torch import distributed
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from coordeval.coords import CoordVocabulary
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_reader
from coordeval.training.config import DataConfig, ObjectiveConfig, RolloutEvalConfig
from coordeval.training.config_file import config_yaml
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.loop.forward import ObjectiveForward
from coordeval.training.loop.gradmon import GradientMonitor
from coordeval.training.losses.objective import Stage1Objective
from coordeval.training.stage1 import train_stage1

WORKER = Path(__file__).with_name("fsdp_worker.py")
LAYERS = {"transformer_layer_cls_to_wrap": ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]}
COMPARED = ("loss", "grad_norm", "loss/soft_ce", "eval_loss", "eval_rollout/tokens/mean")


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _sharded(model, **options):
    """Layers one by one; norm, embedding and head together where the tables are tied."""
    text = model.model.language_model
    for layer in text.layers:
        fully_shard(layer, **options)
    tied = text.embed_tokens.weight is model.lm_head.weight
    if not tied:
        fully_shard(text.embed_tokens, **options)
    tail = [text.norm, *([text.embed_tokens] if tied else []), model.lm_head]
    fully_shard(tail, reshard_after_forward=False, **options)
    fully_shard(model, **options)
    return model


def _gradients(model):
    return {
        name: None if p.grad is None else getattr(p.grad, "full_tensor", lambda p=p: p.grad)()
        for name, p in model.named_parameters()
    }


def _divisors(objective, batch):
    return objective.divisors(objective.counts(batch["labels"], batch["box_slots"]))


def _exactly():
    return torch.autocast("cpu", enabled=False)


def _parts(folder, tied):
    from transformers import Qwen3VLForConditionalGeneration

    base = tiny_base(folder, tied=tied)
    reader = load_reader(resolve_checkpoint(str(base)))
    ids = CoordVocabulary.from_tokenizer(reader.tokenizer).token_ids
    objective = Stage1Objective.from_config(ObjectiveConfig(), ids, end_ids=sorted(reader.end_ids))
    data = TrainDataset(DataConfig(train=str(SCENES), limit=3), reader, split="train", seed=0)
    batch = data.collator()([data[index] for index in range(3)])
    model = Qwen3VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    return model.train(), objective, batch


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_whole_weights(tied, group, tmp_path):
    """Two steps; every gradient, the tied tables' too, and the monitor's."""
    model, objective, batch = _parts(tmp_path, tied)
    found = []
    for one in (copy.deepcopy(model), _sharded(copy.deepcopy(model))):
        forward = ObjectiveForward(one, objective, autocast=_exactly)
        monitor = GradientMonitor(one, every=1, max_numel=100, autocast=_exactly)
        seen = []
        for step in (1, 2):
            monitor.begin(step)
            one.zero_grad()
            computed = forward(
                one,
                batch,
                _divisors(objective, batch),
                inspect=monitor.inspect,
            )
            computed.loss.backward()
            seen.append((computed.loss.detach(), _gradients(one), dict(monitor._sums)))
        found.append(seen)
    for whole, sharded in zip(*found, strict=True):
        torch.testing.assert_close(sharded[0], whole[0])
        assert sharded[1].keys() == whole[1].keys()
        for name, gradient in whole[1].items():
            torch.testing.assert_close(sharded[1][name], gradient, msg=name)
        for name, gradient in whole[2].items():
            torch.testing.assert_close(sharded[2][name], gradient, rtol=1e-4, atol=1e-6)


def test_the_loss_is_not_rounded_with_the_output(group, tmp_path):
    """A policy that casts what modules return leaves the loss in float32."""
    model, objective, batch = _parts(tmp_path, tied=True)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.bfloat16)
    model = _sharded(model, mp_policy=policy)
    forward = ObjectiveForward(model, objective, autocast=_exactly)
    computed = forward(model, batch, _divisors(objective, batch))
    total = sum(objective.weights[name] * float(term.mean) for name, term in computed.terms.items())
    assert computed.loss.dtype is torch.float32
    assert float(computed.loss.detach()) == pytest.approx(total, rel=1e-5)


def _logged(folder):
    """What is compared of a log, by step and name, in whatever order it was written."""
    lines = [*rows(folder), *rows(folder, evaluations=True)]
    return {(row["step"], name): row[name] for row in lines for name in COMPARED if name in row}


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_sharded_steps_are_those_of_one_process(tied, tmp_path):
    """Through Trainer and accelerate on two processes: losses, norms, evaluations and weights."""
    base = tiny_base(tmp_path / "base", tied=tied)
    data = {"limit": 8, "eval": str(SCENES), "eval_limit": 4}
    steps = {"max_steps": 3, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
    evaluated = RolloutEvalConfig(every=3, limit=3, decode={"max_new_tokens": 8})
    alone = {"per_device_train_batch_size": 4}
    whole = train_stage1(
        config(base, tmp_path / "one", data=data, trainer=steps | alone, rollout_eval=evaluated)
    )
    sharded = config(
        base,
        tmp_path / "two",
        data=data,
        trainer=steps | {"ddp_backend": "gloo", "fsdp": True, "fsdp_config": dict(LAYERS)},
        rollout_eval=evaluated,
    )
    path = tmp_path / "sharded.yaml"
    path.write_text(config_yaml(sharded))
    done = spread(WORKER, path)
    assert done.returncode == 0, done.stderr[-2000:]
    expected, found = _logged(tmp_path / "one"), _logged(tmp_path / "two")
    assert expected.keys() == found.keys()
    assert {name for _, name in expected} == {*COMPARED}
    for place, value in expected.items():
        assert found[place] == pytest.approx(value, rel=2e-4), place
    kept, saved = weights(whole.checkpoint), weights(tmp_path / "two" / "checkpoint-3")
    # A head that is tied to the embedding is saved once more.
    assert saved.keys() - kept.keys() <= {"lm_head.weight"}
    for name, value in kept.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-3, atol=2e-4, msg=name)
