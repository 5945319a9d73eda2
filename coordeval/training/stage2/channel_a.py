"""Channel A: teacher-forced answers read again with the model's own coordinates in them.

Text cross-entropy stands on iteration 0, whose inputs are the true ones, and always has a
gradient: without it nothing holds the text together while coordinates are trained. Coordinate
terms stand on the last iteration, optional anchors of theirs on iteration 0.

Shapes: N taught positions, K bins, H hidden width.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from coordeval.errors import ConfigError
from coordeval.training.config import BoxLossConfig
from coordeval.training.loop.channel import Computed
from coordeval.training.loop.forward import Taught
from coordeval.training.losses.objective import Stage1Objective
from coordeval.training.stage2.full_diagnosis import FullDiagnosis
from coordeval.training.stage2.iterations import ContextIterations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from coordeval.training.loop.channel import Diagnosed
    from coordeval.training.losses.term import LossTerm
    from coordeval.training.stage2.config import Stage2Config
    from coordeval.training.stage2.iterations import Passes

FIRST, LAST = "A1/", "A2/"
OFF_MANIFOLD = "context/off_manifold"


class ChannelA:
    """A `Channel` of `stage2.channel_a.iterations` passes over every batch.

    Terms of iteration 0 are named `A1/...`, those of the last one `A2/...` however many there are;
    with one iteration both stand on the same pass. `model`, `autocast`, `seed` and `step` as in
    `ContextIterations`; `coord_ids_K[k]` is the token id of bin k, `end_ids` the tokens that end an
    answer, `chunk` as in `Stage1Objective`. Raises ConfigError where no term has a weight.
    """

    def __init__(
        self,
        model: Any,
        config: Stage2Config,
        coord_ids_K: Tensor | Sequence[int],
        *,
        end_ids: Sequence[int] = (),
        autocast: Callable[[], AbstractContextManager[Any]],
        seed: int = 0,
        step: Callable[[], int] = lambda: 0,
        chunk: int | None = None,
        _anchor_without_gradient: bool = False,
    ) -> None:
        """`_anchor_without_gradient` brings a known mistake back, for tests and studies of it."""
        channel = config.channel_a
        self._ids_K = torch.as_tensor(coord_ids_K, dtype=torch.long)
        first = {"text_ce": channel.text_ce, **channel.anchor.by_name()}
        last = {**channel.weights.by_name(), "gate": config.coord_gate_weight}
        shape: dict[str, Any] = {
            "sigma": config.sigma,
            "truncate": config.truncate,
            "temperature": config.temperature,
            "box": BoxLossConfig(decode=channel.decode),
            "end_ids": end_ids,
            "chunk": chunk,
        }
        self._objectives: dict[str, Stage1Objective | None] = {
            at: Stage1Objective(weights, self._ids_K, **shape) if any(weights.values()) else None
            for at, weights in ((FIRST, first), (LAST, last))
        }
        if not self.names:
            raise ConfigError("stage2.channel_a: no term has a weight")
        self._iterations = ContextIterations(
            model, self._ids_K, channel, autocast=autocast, seed=seed, step=step
        )
        self._head = model.get_output_embeddings
        self._has_context = channel.iterations > 1
        self._anchor_without_gradient = _anchor_without_gradient

    @property
    def names(self) -> tuple[str, ...]:
        """The terms with a weight: iteration 0's, then the last one's."""
        return tuple(self.weights)

    @property
    def weights(self) -> dict[str, float]:
        """What each term's mean is multiplied by."""
        return {
            at + name: weight
            for at, objective in self._objectives.items()
            if objective is not None
            for name, weight in objective.weights.items()
        }

    @property
    def diagnosed_at(self) -> tuple[str, ...]:
        """Iteration 0 and the last one."""
        return (FIRST, LAST)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The contexts' distance to the nearest coordinate embedding, where there are contexts."""
        return (OFF_MANIFOLD,) if self._has_context else ()

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Every term's count, from the labels."""
        out: dict[str, float] = {}
        for at, objective in self._objectives.items():
            if objective is not None:
                counts = objective.counts(batch["labels"], batch["box_slots"])
                out |= {at + name: count for name, count in counts.items()}
        return out

    def divisors(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Each term's own count."""
        return {name: float(counts[name]) for name in self.names}

    def __call__(
        self,
        wrapped: Callable[..., Any],
        batch: Mapping[str, Any],
        divisors: Mapping[str, float],
        *,
        diagnosed: Diagnosed | None = None,
        inspect: Callable[[Taught], None] | None = None,
    ) -> Computed:
        """All passes; a batch that teaches nothing gives a loss of 0 within the graph."""
        terms: dict[str, LossTerm] = {}
        values: dict[str, LossTerm] = {}

        def finish(passes: Passes) -> Tensor:
            watches = {} if diagnosed is None else self._watches(batch, passes)
            parts = [
                self._part(at, passes, divisors, terms, watches.get(at), inspect)
                for at in (FIRST, LAST)
            ]
            for at, watch in watches.items():
                watch.rest(_hidden(passes, at), self._head())
            if diagnosed is not None:
                for at, watch in watches.items():
                    diagnosed[at] += watch.totals
            if self._has_context:
                values[OFF_MANIFOLD] = passes.off_manifold
            return torch.stack([part for part in parts if part is not None]).sum()

        # The loss of the call, not ours: a wrapper may have put a node of its own behind it.
        loss = self._iterations(wrapped, batch, finish)
        return Computed(loss, terms, values)

    def _part(
        self,
        at: str,
        passes: Passes,
        divisors: Mapping[str, float],
        terms: dict[str, LossTerm],
        watch: FullDiagnosis | None,
        inspect: Callable[[Taught], None] | None,
    ) -> Tensor | None:
        """The loss of iteration 0 or of the last one; None where none of its terms has a weight."""
        objective, head, places = self._objectives[at], self._head(), passes.places
        if objective is None:
            return None
        taught = Taught(
            hidden_NH=_hidden(passes, at),
            places=places,
            head=head,
            denominators={name: divisors[at + name] for name in objective.denominator_names},
            objective=objective,
            at=at,
        )
        if inspect is not None:
            inspect(taught)
        broken = at == FIRST and self._anchor_without_gradient
        with torch.no_grad() if broken else nullcontext():
            loss, found = objective.compute(
                taught.hidden_NH,
                head,
                places.labels_N,
                taught.denominators,
                box_slots_M4=places.boxes_M4,
                observe=watch,
            )
        if torch.is_grad_enabled() and not (loss.requires_grad or broken):
            raise RuntimeError(f"the terms of {at} have lost their gradient")
        terms |= {at + name: term for name, term in found.items()}
        return loss

    def _watches(self, batch: Mapping[str, Any], passes: Passes) -> dict[str, FullDiagnosis]:
        """One for each end; where both are the same pass, one that sees it once."""
        first = FullDiagnosis(batch, self._ids_K, len(passes.first_NH))
        if not self._has_context:
            return {FIRST: first, LAST: first}
        return {FIRST: first, LAST: FullDiagnosis(batch, self._ids_K, len(passes.last_NH))}


def _hidden(passes: Passes, at: str) -> Tensor:
    return passes.first_NH if at == FIRST else passes.last_NH


__all__ = ["FIRST", "LAST", "OFF_MANIFOLD", "ChannelA"]
