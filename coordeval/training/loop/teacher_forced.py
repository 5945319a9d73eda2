"""The plain channel: one forward pass over what is taught. Stage 1 trains on nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.training.diagnostics.observing import observer
from coordeval.training.loop.forward import ObjectiveForward

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from coordeval.training.loop.channel import Computed, Diagnosed
    from coordeval.training.loop.forward import Taught
    from coordeval.training.losses.objective import Stage1Objective


class TeacherForced:
    """A `Channel` of one objective in one pass; `at` stands before its terms' names (`B/`).

    `model` and `autocast` as in `ObjectiveForward`. `coord_ids_K` None: no diagnoses.
    """

    value_names: tuple[str, ...] = ()

    def __init__(
        self,
        model: Any,
        objective: Stage1Objective,
        *,
        autocast: Callable[[], AbstractContextManager[Any]],
        coord_ids_K: Tensor | None = None,
        at: str = "",
    ) -> None:
        self.objective, self._at, self._coord_ids_K = objective, at, coord_ids_K
        self._forward = ObjectiveForward(model, objective, autocast=autocast)

    @property
    def names(self) -> tuple[str, ...]:
        """The objective's terms."""
        return tuple(self._at + name for name in self.objective.denominator_names)

    @property
    def weights(self) -> dict[str, float]:
        """What each term's mean is multiplied by."""
        return {self._at + name: weight for name, weight in self.objective.weights.items()}

    @property
    def diagnosed_at(self) -> tuple[str, ...]:
        """Its one place, where there are coordinates to diagnose."""
        return () if self._coord_ids_K is None else (self._at,)

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """Every term's count, from the labels and what weighs them."""
        counts = self.objective.counts(
            batch["labels"],
            batch["box_slots"],
            text_weights_N=batch.get("token_weights"),
            unlikely_U2=batch.get("unlikely"),
        )
        return {self._at + name: count for name, count in counts.items()}

    def divisors(self, counts: Mapping[str, float]) -> dict[str, float]:
        """The objective's."""
        own = self.objective.divisors(self._own(counts))
        return {self._at + name: value for name, value in own.items()}

    def __call__(
        self,
        wrapped: Callable[..., Any],
        batch: Mapping[str, Any],
        divisors: Mapping[str, float],
        *,
        diagnosed: Diagnosed | None = None,
        inspect: Callable[[Taught], None] | None = None,
    ) -> Computed:
        """One forward pass; a batch that teaches nothing gives a loss of 0 within the graph."""
        watch = None
        if diagnosed is not None and self._coord_ids_K is not None:
            watch = observer(batch, self._coord_ids_K, diagnosed[self._at])
        computed = self._forward(
            wrapped, batch, self._own(divisors), observe=watch, inspect=inspect, at=self._at
        )
        terms = {self._at + name: term for name, term in computed.terms.items()}
        return computed._replace(terms=terms)

    def _own(self, values: Mapping[str, float]) -> dict[str, float]:
        return {name: values[self._at + name] for name in self.objective.denominator_names}


__all__ = ["TeacherForced"]
