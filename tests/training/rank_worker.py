"""One process of a training on two: run as a script by test_eval_ranks.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from live_training import callback, make_trainer, tiny_model
from torch import distributed

RANK = int(os.environ["RANK"])


def train(folder, callbacks, **args):
    model = tiny_model()
    made = callbacks(model)
    trainer = make_trainer(
        folder,
        model,
        made,
        max_steps=2,
        ddp_backend="gloo",
        ddp_find_unused_parameters=True,
        **args,
    )
    trainer.train()
    return trainer


def weights(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


def gathered(value):
    held = [None] * 2
    distributed.all_gather_object(held, value)
    return held


def whole(out):
    """Two processes, with and without; the run directories, the logs of both."""
    notes = []
    options = {"every": 1, "at_start": True, "limit": 7, "batch_size": 2, "notify": notes.append}
    options |= {"best_metric": "samples/truncated_rate"}
    watched = train(out / "watched", lambda model: [callback(model, **options)])
    plain = train(out / "plain", lambda model: [])
    equal = all(torch.equal(a, b) for a, b in zip(weights(watched), weights(plain), strict=True))
    logs = [row for row in watched.state.log_history if "eval_rollout/seconds" in row]
    return {"equal": equal, "logs": logs, "notes": notes}


def failing(out):
    """Process 1 fails in its share, then cannot make an engine; then process 0 fails."""
    from coordeval.engines.hf import HfEngine
    from coordeval.training.rollout_eval import live_evaluator

    state = {"step": -1}
    generate, hf_engine = HfEngine.generate, live_evaluator.LiveEvaluator.hf_engine
    identity = live_evaluator.live_identity

    def broken_generate(self, requests):
        if RANK == 1 and state["step"] == 0:
            raise RuntimeError("share lost")
        return generate(self, requests)

    def broken_engine(self, model):
        if RANK == 1 and state["step"] == 1:
            raise RuntimeError("no engine")
        return hf_engine(self, model)

    def broken_identity(*args, **kwargs):
        if state["step"] == 2:
            raise OSError("no disk")
        return identity(*args, **kwargs)

    HfEngine.generate = broken_generate
    live_evaluator.LiveEvaluator.hf_engine = broken_engine
    live_evaluator.live_identity = broken_identity
    evaluate = live_evaluator.LiveEvaluator.evaluate

    def noted(self, model, *, step, epoch):
        state["step"] = step
        return evaluate(self, model, step=step, epoch=epoch)

    live_evaluator.LiveEvaluator.evaluate = noted
    notes = []
    options = {"every": 1, "at_start": True, "limit": 5, "batch_size": 2, "notify": notes.append}
    trainer = train(out / "failing", lambda model: [callback(model, **options)])
    logs = [row for row in trainer.state.log_history if "eval_rollout/seconds" in row]
    return {"logs": logs, "notes": notes, "steps": trainer.state.global_step}


def refused(out):
    """What process 1 alone finds wrong ends the training of both before its first step."""
    from coordeval.errors import CoordevalError

    limit = -3 if RANK == 1 else 3
    try:
        train(out / "refused", lambda model: [callback(model, limit=limit)])
    except CoordevalError as error:
        return {"error": str(error)}
    return {"error": None}


def sharded(out):
    """FSDP, version 2 and then 1: the gathered weights are evaluated by another process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    second = tiny_model()
    fully_shard(second, mesh=init_device_mesh("cpu", (2,)))
    first = FullyShardedDataParallel(
        tiny_model(), device_id=torch.device("cpu"), use_orig_params=True
    )
    return {"2": _hand_over(out / "sharded2", second), "1": _hand_over(out / "sharded1", first)}


def _hand_over(folder, model):
    from types import SimpleNamespace

    from transformers import TrainerControl, TrainerState

    from coordeval.training.rollout_eval.sharded import sharding_of

    notes = []
    made = callback(
        tiny_model(), every=1, notify=notes.append, best_metric="samples/truncated_rate"
    )
    args = SimpleNamespace(
        output_dir=str(folder), load_best_model_at_end=False, metric_for_best_model=None
    )
    state, control = TrainerState(max_steps=9), TrainerControl()
    made.on_train_begin(args, state, control, model=model)
    state.global_step = 1
    made.on_step_end(args, state, control, model=model)
    made.at_end = False
    made.on_train_end(args, state, control, model=model)
    return {
        "sharding": sharding_of(model),
        "logs": state.log_history,
        "notes": notes,
    }


def main(names, out):
    if names == "sharded":
        distributed.init_process_group("gloo")
    results = {}
    for name in names.split(","):
        results[name] = gathered_after(globals()[name](out))
    if RANK == 0:
        (out / f"{names}.json").write_text(json.dumps(results))
    distributed.barrier()
    distributed.destroy_process_group()


def gathered_after(value):
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return gathered(value)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
