"""What a trainer runs in one optimizer step: a way from a batch to a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from coordeval.training.diagnostics.totals import Totals
    from coordeval.training.loop.forward import Taught
    from coordeval.training.losses.term import LossTerm

Diagnosed = dict[str, list["Totals"]]
"""Diagnoses of a step by where they were taken: "" (stage 1), "A1/", "A2/", "B/"."""


class Computed(NamedTuple):
    """What a forward pass gave: the loss with gradient, and every term's sum and count.

    `values` are sums and counts of what is only logged (`context/off_manifold`).
    """

    loss: Tensor
    terms: dict[str, LossTerm]
    values: dict[str, LossTerm]


class Channel(Protocol):
    """One way to train on a batch: stage 1's, or one of stage 2's two.

    Terms are named as the log names them behind `loss/`: `text_ce` in stage 1, `A1/text_ce`,
    `A2/ciou`, `B/unlikelihood` in stage 2.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The terms with a weight, in one order on every process; each has a count of its own."""
        ...

    @property
    def diagnosed_at(self) -> tuple[str, ...]:
        """Where it can take diagnoses: keys of `Diagnosed`."""
        ...

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of what is only logged."""
        ...

    def counts(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """How much each term would sum over, from the batch alone, before any forward pass."""
        ...

    def divisors(self, counts: Mapping[str, float]) -> dict[str, float]:
        """What each term is divided by, from the counts of a whole window over all processes."""
        ...

    def __call__(
        self,
        wrapped: Callable[..., Any],
        batch: Mapping[str, Any],
        divisors: Mapping[str, float],
        *,
        diagnosed: Diagnosed | None = None,
        inspect: Callable[[Taught], None] | None = None,
    ) -> Computed:
        """Loss and terms of one batch on its device; `wrapped` is the model as it is called.

        `diagnosed` is filled where it is given.
        """
        ...


__all__ = ["Channel", "Computed", "Diagnosed"]
