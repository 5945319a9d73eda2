"""A loss or gradient that is not finite ends the training before it reaches the weights.

The step is not taken, no checkpoint is written, and a dump says which samples the step was made
of. The command ends with exit code 3: the run is incomplete. Nothing was wrong with how it was
called (2), no gate failed (1), and it is no fault inside the program (70).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.errors import RunIncomplete
from coordeval.jsonl import dump_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DUMP_FOLDER = "nonfinite"
_SHOWN = 5


class TrainingDiverged(RunIncomplete):
    """Loss or gradient norm became NaN or infinite; names the samples and the dump."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """A step that is not finite: `batches` are (sample ids, share of the loss) of every process.

    `channel` is None where there is but one.
    """

    step: int
    loss: float
    grad_norm: float | None
    sums: Mapping[str, float]
    denominators: Mapping[str, float]
    batches: Sequence[tuple[Sequence[str], float]]
    channel: str | None = None

    @property
    def suspects(self) -> list[str]:
        """Ids of the batches whose own loss is not finite; of all, where only the gradient is."""
        bad = [ids for ids, share in self.batches if not math.isfinite(share)]
        chosen = bad or [ids for ids, _ in self.batches]
        return [name for ids in chosen for name in ids]

    def to_json(self) -> dict[str, Any]:
        """Plain data; numbers that are not finite as text."""
        return {
            "step": self.step,
            **({} if self.channel is None else {"channel": self.channel}),
            "loss": _readable(self.loss),
            "grad_norm": _readable(self.grad_norm),
            "suspect_ids": self.suspects,
            "term_sums": {name: _readable(value) for name, value in self.sums.items()},
            "denominators": dict(self.denominators),
            "batches": [{"ids": list(ids), "loss": _readable(s)} for ids, s in self.batches],
        }


def is_finite(loss: float, grad_norm: float | None) -> bool:
    """Whether a step may be taken."""
    return math.isfinite(loss) and (grad_norm is None or math.isfinite(grad_norm))


def stop(divergence: Divergence, folder: Path, *, writes: bool) -> TrainingDiverged:
    """Write the dump (where this process writes) and make the error to raise."""
    path = folder / DUMP_FOLDER / f"step_{divergence.step:06d}.json"
    if writes:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump_line(divergence.to_json()))
    what = "loss" if not math.isfinite(divergence.loss) else "gradient norm"
    value = divergence.loss if what == "loss" else divergence.grad_norm
    ids = divergence.suspects
    shown = ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    channel = "" if divergence.channel is None else f" (channel {divergence.channel})"
    return TrainingDiverged(
        f"step {divergence.step}{channel}: the {what} is {value}; samples {shown or '(none)'}; "
        f"written to {path}. The step was not taken and the last checkpoint is as it was: lower "
        "the learning rate, clip harder (trainer.max_grad_norm), or look at these samples"
    )


def _readable(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


__all__ = ["DUMP_FOLDER", "Divergence", "TrainingDiverged", "is_finite", "stop"]
