"""Channel B and its rollouts around fixture checkpoints and tiny models, without a trainer."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

from stage2_setup import config

from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.options import RolloutOptions, control_settings
from coordeval.runs import open_run
from coordeval.training.assembly import assemble
from coordeval.training.loop.arguments import training_arguments
from coordeval.training.rollout_eval.ranks import Alone
from coordeval.training.stage2.open_channel_b import open_channel_b
from coordeval.training.stage2.rollouts import open_rollouts

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "fixtures"
SCENES = FIXTURES / "scenes" / "heldout.jsonl"


def silent(_):
    """Hears nothing."""


def parts_of(base, out, *, rollout=None, channel=None, notify=silent, data=None, **stage2):
    """The parts of a stage-2 training on the held-out scenes; every step rolls out."""
    channel = {"rollout": rollout or {}} | (channel or {})
    made = config(base, out, data=data, stage2={"b_ratio": 1.0, "channel_b": channel} | stage2)
    return assemble(made, training_arguments(made), notify)


def holder(parts, model=None):
    """What a trainer is to channel B."""
    return SimpleNamespace(
        model=parts.model if model is None else model,
        accelerator=SimpleNamespace(autocast=nullcontext),
    )


def channel_of(parts, *, model=None, notify=silent):
    """Channel B of parts, as a training opens it."""
    return open_channel_b(parts, holder(parts, model), notify)


def rollouts_of(parts, *, model=None, notify=silent, ranks=None, **rest):
    """The rollouts alone."""
    return open_rollouts(
        parts.config.stage2.channel_b.rollout,
        parts.config.data,
        parts.train,
        parts.reader,
        parts.model if model is None else model,
        seed=parts.config.seed,
        folder=parts.folder,
        ranks=ranks or Alone(),
        notify=notify,
        **rest,
    )


def from_command(checkpoint, out, *, limit=8, data=SCENES, batch_size=8, **decode):
    """What `coordeval rollout` writes for the same weights, by (id, sample_index)."""
    decode |= control_settings(decode)
    options = RolloutOptions(
        checkpoint=str(checkpoint),
        data=data,
        runs_dir=out,
        out=out,
        engine="hf",
        limit=limit,
        batch_size=batch_size,
        **decode,
    )
    rollout_checkpoint(options)
    return {(r.id, r.sample_index): r for r in open_run(out).rollouts()}


def window(parts, *groups):
    """Teacher-forced batches of samples by number, as the data loader makes them."""
    collate = parts.train.collator()
    return [collate([parts.train[number] for number in group]) for group in groups]


def answers(of_samples):
    """What tells rollouts apart: ids, tokens, text, and how they ended."""
    return [
        (r.id, r.sample_index, r.token_ids, r.text, r.finish_reason)
        for views in of_samples
        for r in views
    ]
