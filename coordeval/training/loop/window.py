"""One optimizer step's denominators, and what its micro-batches add up to.

Each term is divided by its own count over the whole accumulation window and all processes, known
from the labels before the first forward pass. One reduction before the window, one after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coordeval.training.data.labels import COORDINATE, DESCRIPTION, END, STRUCTURE
from coordeval.training.diagnostics.totals import FIELDS, Totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from coordeval.training.losses.objective import Stage1Objective
    from coordeval.training.losses.term import LossTerm

KIND_COUNTS = {
    "taught/description": DESCRIPTION,
    "taught/coordinate": COORDINATE,
    "taught/structure": STRUCTURE,
    "taught/end": END,
}
EXTRA_COUNTS = ("samples", "skipped", "input_tokens", *KIND_COUNTS, "stop")


def count_batch(objective: Stage1Objective, batch: Mapping[str, Any]) -> dict[str, int]:
    """Every denominator of one batch under its term's name, and the counts of `EXTRA_COUNTS`.

    `input_tokens` are all that the model reads, padding left out; the rest are taught tokens by
    kind, samples, and samples that could not be read. `stop` is 0: the caller asks for it.
    """
    counts = objective.counts(batch["labels"], batch["box_slots"])
    kinds = torch.bincount(batch["token_kinds"].flatten().long(), minlength=END + 1)
    out = {f"tokens/{name}": count for name, count in counts.items()}
    out |= {name: int(kinds[code]) for name, code in KIND_COUNTS.items()}
    out["samples"] = len(batch["sample_ids"])
    out["skipped"] = len(batch.get("skipped", ()))
    if batch["sample_ids"]:
        out["input_tokens"] = int((batch["segment_ids"] >= 0).sum())
    else:
        out["input_tokens"] = 0
    return out | {"stop": 0}


def add_counts(names: Sequence[str], parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counts added up under the given names; zeros without parts."""
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def count_names(objective: Stage1Objective) -> tuple[str, ...]:
    """All names of `count_batch`, in one order on every process."""
    return (*(f"tokens/{name}" for name in objective.denominator_names), *EXTRA_COUNTS)


def reduced(values: Sequence[float] | NDArray[np.float64], accelerator: Any) -> NDArray[np.float64]:
    """Sums over all processes, in float64 (exact for counts below 2^53); one reduction."""
    array = np.asarray(values, dtype=np.float64)
    if accelerator.num_processes == 1:
        return array
    tensor = torch.from_numpy(array.copy()).to(accelerator.device)
    total: Tensor = accelerator.reduce(tensor, reduction="sum")
    return total.cpu().numpy()


@dataclass(slots=True)
class Window:
    """One optimizer step: `counts` over all processes, and this process's sums as they come in.

    `loss_values` are each micro-batch's share of the step's loss; `sums` every term's; both stay
    on the device until the step is done. `diagnosed` is None where this step is not diagnosed.
    """

    counts: dict[str, int]
    diagnosed: list[Totals] | None = None
    ids: list[list[str]] = field(default_factory=list)
    loss_values: list[Tensor] = field(default_factory=list)
    sums: list[dict[str, Tensor]] = field(default_factory=list)
    grad_norm: float | None = None

    @property
    def denominators(self) -> dict[str, float]:
        """What each term is divided by."""
        return {
            name.removeprefix("tokens/"): float(count)
            for name, count in self.counts.items()
            if name.startswith("tokens/")
        }

    def add(self, ids: list[str], loss: Tensor, terms: Mapping[str, LossTerm]) -> None:
        """Take in one micro-batch."""
        self.ids.append(ids)
        self.loss_values.append(loss.detach())
        self.sums.append({name: term.loss_sum.detach() for name, term in terms.items()})

    def finish(self, accelerator: Any) -> Finished:
        """Sum over micro-batches and processes; a reduction on every process."""
        names = list(self.denominators)
        shares = torch.stack(self.loss_values).double().cpu().numpy()
        stacked = [torch.stack([part[name] for name in names]) for part in self.sums]
        sums_S = torch.stack(stacked).double().cpu().numpy().sum(axis=0)
        totals = np.zeros(len(FIELDS))
        if self.diagnosed:
            totals = np.sum([part.sums for part in self.diagnosed], axis=0)
        summed = reduced(np.concatenate([[shares.sum()], sums_S, totals]), accelerator)
        return Finished(
            loss=float(summed[0]),
            shares=shares.tolist(),
            sums=dict(zip(names, summed[1 : 1 + len(names)].tolist(), strict=True)),
            totals=None if self.diagnosed is None else self._totals(summed, names, accelerator),
        )

    def _totals(
        self, summed: NDArray[np.float64], names: Sequence[str], accelerator: Any
    ) -> Totals:
        assert self.diagnosed is not None
        own = np.concatenate([np.zeros(0), *(part.abs_errors for part in self.diagnosed)])
        return Totals(sums=summed[1 + len(names) :], abs_errors=gathered(own, accelerator))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A window's loss and term sums over all processes; `shares` of this process's batches."""

    loss: float
    shares: list[float]
    sums: dict[str, float]
    totals: Totals | None

    def means(self, denominators: Mapping[str, float]) -> dict[str, float | None]:
        """Every term's unweighted mean under `loss/<term>`; None where nothing was counted."""
        return {
            f"loss/{name}": value / denominators[name] if denominators[name] else None
            for name, value in self.sums.items()
        }


def gathered(values: NDArray[np.float64], accelerator: Any) -> NDArray[np.float64]:
    """One array of all processes' values, in their order; a collective call on every process."""
    if accelerator.num_processes == 1:
        return values
    from accelerate.utils import gather_object  # type: ignore[import-untyped, unused-ignore]

    return np.concatenate([np.zeros(0), *gather_object([values])])


__all__ = [
    "EXTRA_COUNTS",
    "Finished",
    "Window",
    "add_counts",
    "count_batch",
    "count_names",
    "gathered",
    "reduced",
]
