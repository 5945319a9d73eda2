"""Tiny trainings of stage 2, with a channel B whose "rollouts" are one forward pass."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from forked_scripts import run_script
from stage1_setup import ROOT, rows, weights
from stage1_setup import config as stage1_config

from coordeval.training.config import BoxLossConfig, ObjectiveConfig
from coordeval.training.config_file import build_config, config_values
from coordeval.training.data.batches import to_device
from coordeval.training.data.collator import model_inputs
from coordeval.training.loop.teacher_forced import TeacherForced
from coordeval.training.loop.window import reduced
from coordeval.training.losses.objective import Stage1Objective

WORKER = Path(__file__).with_name("stage2_worker.py")
TIMES = {"seconds", "tokens_per_second", "samples_per_second", "rollout/seconds"}


def config(base, out, *, stage2=None, **rest):
    """A configuration of stage 2 on the held-out scenes; `stage2` as a file would have it."""
    raw = config_values(stage1_config(base, out, **rest))
    raw.pop("objective")
    return build_config(raw | {"stage": 2, "stage2": stage2 or {}}, where="test")


def without_times(logged):
    """Rows of a log without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in logged]


class StandIn(TeacherForced):
    """Channel B in small: what the present weights get wrong weighs less, and is pushed down.

    The most probable token of every taught place is its rollout: it depends on the weights, and on
    (step, sample) by a draw that decides how much a wrong token weighs.
    """

    def __init__(self, parts, trainer, notify=None):
        ids = torch.tensor(parts.coord_ids)
        objective = Stage1Objective(
            {"text_ce": 1.0, "hard_ce": 0.5, "w1": 0.3, "gate": 1.0, "unlikelihood": 0.5},
            ids,
            box=BoxLossConfig(ciou=0.2),
            end_ids=sorted(parts.reader.end_ids),
        )
        super().__init__(
            trainer.model,
            objective,
            autocast=trainer.accelerator.autocast,
            coord_ids_K=ids,
            at="B/",
        )
        self._trainer, self._found, self.closed = trainer, [0, 0], False

    def prepare(self, batches, step, *, dry=False):
        self._found = [0, 0]
        return [self._rolled(batch, step) if batch["sample_ids"] else batch for batch in batches]

    def _rolled(self, batch, step):
        model = self._trainer.model
        with torch.no_grad():
            placed = to_device(batch, self._trainer.args.device)
            best_BL = model(**model_inputs(placed)).logits.argmax(dim=-1)
        best_BL = torch.cat([torch.zeros_like(best_BL[:, :1]), best_BL[:, :-1]], dim=1)
        taught_BL = batch["labels"] >= 0
        wrong_BL = taught_BL & (best_BL != batch["labels"])
        self._found[0] += int((taught_BL & ~wrong_BL).sum())
        self._found[1] += int(taught_BL.sum())
        drawn_S = torch.tensor([_drawn(step, name) for name in batch["sample_ids"]])
        weight_BL = drawn_S[batch["segment_ids"].clamp(min=0)]
        flat_U = torch.nonzero(wrong_BL.flatten())[:, 0]
        return batch | {
            "token_weights": torch.where(wrong_BL, weight_BL, torch.ones_like(weight_BL)),
            "unlikely": torch.stack([flat_U, best_BL.flatten()[flat_U]], dim=1),
        }

    def telemetry(self):
        right, of = reduced([float(n) for n in self._found], self._trainer.accelerator)
        return {"rollout/right": right / of}

    def close(self):
        self.closed = True


def _drawn(step, name):
    seed = int.from_bytes(hashlib.sha256(f"{step} {name}".encode()).digest()[:4])
    return float(np.float32(np.random.default_rng(seed).uniform(0.1, 0.9)))


def stand_in(parts, notify, trainer):
    """In the place of `coordeval.training.stage2.entry._channel_b`."""
    return StandIn(parts, trainer, notify)


def objective_a():
    """The objective of an evaluation under the default weights of channel A."""
    return ObjectiveConfig(
        preset="soft",
        soft_ce=0.1,
        w1=0.1,
        gate=1.0,
        box=BoxLossConfig(smooth_l1=2.0, ciou=0.2),
    )


def assert_same_steps(one, other, tolerance=2e-5):
    """Both runs logged the same steps and ended with the same weights, up to rounding."""
    left, right = without_times(rows(one)), without_times(rows(other))
    assert len(left) == len(right) > 1
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        assert a.pop("channel") == b.pop("channel")
        for key in a.keys() - {"epoch", "accum/grad_steps", "gradmon/seconds"}:
            if a[key] is None or b[key] is None:
                assert a[key] is b[key], (key, a["step"])
                continue
            assert a[key] == pytest.approx(b[key], rel=tolerance, abs=1e-5), (key, a["step"])
    last = left[-1]["step"]
    ours, theirs = weights(one / f"checkpoint-{last}"), weights(other / f"checkpoint-{last}")
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=2e-6)


def _adapter_or_weights(checkpoint):
    if (checkpoint / "model.safetensors").exists():
        return weights(checkpoint)
    from safetensors.torch import load_file

    return load_file(checkpoint / "adapter_model.safetensors")


def assert_equal_runs(one, other):
    """The same steps and evaluations, bit for bit, and the same last weights."""
    for evaluations in (False, True):
        left, right = (
            [
                {k: v for k, v in row.items() if k != "eval_seconds"}
                for row in without_times(rows(out, evaluations=evaluations))
            ]
            for out in (one, other)
        )
        assert left == right
    steps = [row["step"] for row in rows(one)]
    assert steps == list(range(1, steps[-1] + 1))
    ours, theirs = (_adapter_or_weights(out / f"checkpoint-{steps[-1]}") for out in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def killed_worker(path, *arguments):
    """Run `stage2_worker.py` on a configuration file; it is to kill itself."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, WORKER.parent, WORKER.parents[1]))),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    return run_script(WORKER, path, *arguments, env=environment)
