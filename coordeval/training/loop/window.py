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

    from coordeval.training.loop.channel import Channel, Computed, Diagnosed
    from coordeval.training.losses.term import LossTerm

KIND_COUNTS = {
    "taught/description": DESCRIPTION,
    "taught/coordinate": COORDINATE,
    "taught/structure": STRUCTURE,
    "taught/end": END,
}
EXTRA_COUNTS = ("samples", "skipped", "input_tokens", *KIND_COUNTS, "stop")


def count_batch(channel: Channel, batch: Mapping[str, Any]) -> dict[str, float]:
    """Every denominator of one batch under its term's name, and the counts of `EXTRA_COUNTS`.

    `input_tokens` are all that the model reads, padding left out; the rest are taught tokens by
    kind, samples, and samples that could not be read. `stop` is 0: the caller asks for it.
    """
    kinds = torch.bincount(batch["token_kinds"].flatten().long(), minlength=END + 1)
    out: dict[str, float] = {f"tokens/{name}": n for name, n in channel.counts(batch).items()}
    out |= {name: int(kinds[code]) for name, code in KIND_COUNTS.items()}
    out["samples"] = len(batch["sample_ids"])
    out["skipped"] = len(batch.get("skipped", ()))
    if batch["sample_ids"]:
        out["input_tokens"] = int((batch["segment_ids"] >= 0).sum())
    else:
        out["input_tokens"] = 0
    return out | {"stop": 0}


def add_counts(names: Sequence[str], parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Counts added up under the given names; zeros without parts."""
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def count_names(channel: Channel) -> tuple[str, ...]:
    """All names of `count_batch`, in one order on every process."""
    return (*(f"tokens/{name}" for name in channel.names), *EXTRA_COUNTS)


def plain(count: float) -> float:
    """A whole count as int; sums of weights, which need not be whole, as they are."""
    return int(count) if float(count).is_integer() else float(count)


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

    `loss_values` are each micro-batch's share of the step's loss; `sums` every term's, `values`
    those of what is only logged; all stay on the device until the step is done. `diagnosed` is
    None where this step is not diagnosed. `label` names the channel where there are several;
    `facts` are further values of the step's row.
    """

    counts: dict[str, float]
    channel: Channel
    diagnosed: Diagnosed | None = None
    label: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    ids: list[list[str]] = field(default_factory=list)
    loss_values: list[Tensor] = field(default_factory=list)
    sums: list[dict[str, Tensor]] = field(default_factory=list)
    values: list[dict[str, LossTerm]] = field(default_factory=list)
    grad_norm: float | None = None

    @property
    def denominators(self) -> dict[str, float]:
        """Every term's count over the window and all processes."""
        return {name: float(self.counts[f"tokens/{name}"]) for name in self.channel.names}

    @property
    def divisors(self) -> dict[str, float]:
        """What each term is divided by."""
        return self.channel.divisors(self.denominators)

    def add(self, ids: list[str], computed: Computed) -> None:
        """Take in one micro-batch."""
        self.ids.append(ids)
        self.loss_values.append(computed.loss.detach())
        self.sums.append({name: term.loss_sum.detach() for name, term in computed.terms.items()})
        self.values.append(computed.values)

    def finish(self, accelerator: Any) -> Finished:
        """Sum over micro-batches and processes; a reduction on every process."""
        names, watched = self.channel.names, self.channel.value_names
        shares = torch.stack(self.loss_values).double().cpu().numpy()
        parts = [
            np.array([shares.sum()]),
            _stacked_sums(self.sums, names),
            _stacked_sums([_sums_of(part) for part in self.values], watched),
            np.array([_count(self.values, name) for name in watched]),
            *(np.sum([np.zeros(len(FIELDS)), *(t.sums for t in of)], 0) for of in self._places()),
        ]
        ends = np.cumsum([len(part) for part in parts])[:-1]
        summed = np.split(reduced(np.concatenate(parts), accelerator), ends)
        return Finished(
            loss=float(summed[0][0]),
            shares=shares.tolist(),
            sums=dict(zip(names, summed[1].tolist(), strict=True)),
            values={
                name: float(total / count) if count else None
                for name, total, count in zip(watched, summed[2], summed[3], strict=True)
            },
            totals=None if self.diagnosed is None else self._totals(summed[4:], accelerator),
        )

    def _places(self) -> list[list[Totals]]:
        return [] if self.diagnosed is None else list(self.diagnosed.values())

    def _totals(self, sums: Sequence[NDArray[np.float64]], accelerator: Any) -> dict[str, Totals]:
        assert self.diagnosed is not None
        out = {}
        for (at, parts), summed in zip(self.diagnosed.items(), sums, strict=True):
            own = np.concatenate([np.zeros(0), *(part.abs_errors for part in parts)])
            out[at] = Totals(sums=summed, abs_errors=gathered(own, accelerator))
        return out


def _stacked_sums(
    parts: Sequence[Mapping[str, Tensor]], names: Sequence[str]
) -> NDArray[np.float64]:
    """Each name's sum over micro-batches, in float64, by one copy from the device."""
    if not names:
        return np.zeros(0)
    stacked = [torch.stack([part[name] for name in names]) for part in parts]
    summed: NDArray[np.float64] = torch.stack(stacked).double().cpu().numpy().sum(axis=0)
    return summed


def _sums_of(values: Mapping[str, LossTerm]) -> dict[str, Tensor]:
    return {name: term.loss_sum.detach() for name, term in values.items()}


def _count(values: Sequence[Mapping[str, LossTerm]], name: str) -> float:
    return float(sum(part[name].num_tokens for part in values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A window's loss and term sums over all processes; `shares` of this process's batches.

    `values` are means of what is only logged; `totals` the diagnoses by where they were taken.
    """

    loss: float
    shares: list[float]
    sums: dict[str, float]
    values: dict[str, float | None]
    totals: dict[str, Totals] | None

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
    "plain",
    "reduced",
]
