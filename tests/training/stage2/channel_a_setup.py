"""Tiny models and batches for channel A, and a count of what a model does in one call."""

from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from coordeval.coords import CoordVocabulary
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_reader
from coordeval.training.config import DataConfig
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.stage2.channel_a import ChannelA
from coordeval.training.stage2.config import (
    AnchorWeights,
    ChannelAConfig,
    ContextConfig,
    Stage2Config,
    TermWeights,
)
from coordeval.training.tiny.model import (
    TinyConfig,
    build_model,
    tiny_tokenizer,
    write_random_checkpoint,
)

SCENES = Path(__file__).parents[3] / "fixtures" / "scenes" / "heldout.jsonl"
NAMES = ("red circle", "blue square", "green square", "yellow circle")
SMALL = {
    "hidden": 32,
    "layers": 2,
    "heads": 2,
    "head_dim": 16,
    "feed_forward": 32,
    "vision_depth": 1,
    "vision_hidden": 32,
    "vision_heads": 2,
    "vision_feed_forward": 32,
    "init_std": 0.1,
}
EVERY_TERM = TermWeights(
    hard_ce=0.7, soft_ce=1.0, w1=4.0, text_gate=0.3, smooth_l1=2.0, ciou=0.5, giou=0.4
)
EVERY_ANCHOR = AnchorWeights(
    hard_ce=0.2, soft_ce=0.3, w1=1.0, gate=0.4, smooth_l1=0.6, ciou=0.3, giou=0.2
)
NO_TERM = TermWeights(soft_ce=0, w1=0, smooth_l1=0, ciou=0)


def tiny_model(*, tied=True, dtype=torch.float64, seed=0, **sizes):
    """A real Qwen3-VL of two layers with features injected into its first one."""
    config = TinyConfig(**(SMALL | {"tied": tied} | sizes))
    model = build_model(config, tiny_tokenizer(NAMES), seed=seed).to(dtype).train()
    if not tied:
        with torch.no_grad():
            # Sharp enough for boxes of more than a bin: CIoU's gradient is bounded below that.
            model.lm_head.weight.mul_(8.0)
    return model


class Material:
    """The held-out scenes as training examples, for any batch of them."""

    def __init__(self, folder):
        checkpoint = write_random_checkpoint(folder, class_names=NAMES, config=TinyConfig(**SMALL))
        self.reader = load_reader(resolve_checkpoint(str(checkpoint)))
        tokenizer = self.reader.tokenizer
        self.coord_ids = torch.tensor(CoordVocabulary.from_tokenizer(tokenizer).token_ids)
        self.end_ids = sorted(self.reader.end_ids)
        self.data = TrainDataset(DataConfig(train=str(SCENES)), self.reader)

    def batch(self, *numbers, data=None):
        """The batch of some scenes."""
        data = self.data if data is None else data
        return data.collator()([data[number] for number in numbers])

    def channel(self, model, config, **rest):
        """Channel A on a model, without mixed precision unless it is asked for."""
        return ChannelA(
            model,
            config,
            self.coord_ids,
            **({"end_ids": self.end_ids, "autocast": nullcontext, "seed": 3} | rest),
        )


def stage2(context="expected", gradient=None, *, mode="unroll", iterations=3, **rest):
    """A configuration with a weight on every term."""
    kind = ContextConfig(kind=context, gradient=gradient, top_k=3, temperature=0.8)
    whole = {"temperature": 1.3, "coord_gate_weight": 0.9}
    whole |= {key: rest.pop(key) for key in list(rest) if key not in ChannelAConfig.__slots__}
    return Stage2Config(
        channel_a=ChannelAConfig(
            context=kind,
            grad_mode=mode,
            iterations=iterations,
            **({"text_ce": 1.1, "weights": EVERY_TERM, "anchor": EVERY_ANCHOR} | rest),
        ),
        **whole,
    )


def step(channel, model, batch, counts=None):
    """Loss, terms, and the gradient of every parameter, of one batch."""
    model.zero_grad(set_to_none=True)
    divisors = channel.divisors(channel.counts(batch) if counts is None else counts)
    computed = channel(model, batch, divisors)
    computed.loss.backward()
    return computed, gradients(model)


def gradients(model):
    """Gradients by name, zeros where there is none."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def same(ours, theirs, tolerance=1e-6):
    """Two sets of gradients are equal, relative to the largest of each tensor and of all."""
    assert ours.keys() == theirs.keys()
    largest = max(float(value.abs().max()) for value in theirs.values())
    for name, value in theirs.items():
        error = float((ours[name] - value).abs().max())
        assert error <= tolerance * max(float(value.abs().max()), 1e-3 * largest), (name, error)


@contextmanager
def calls_of(module):
    """The list of a module's calls, one entry each."""
    calls = []
    handle = module.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    try:
        yield calls
    finally:
        handle.remove()
