"""What makes training rollouts: a protocol with one file for each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.records import Rollout


class LiveEngine(Protocol):
    """Answers requests with the weights that a model has at the moment of asking."""

    @property
    def decode(self) -> DecodeSettings:
        """The settings that hold, after a default that the engine cannot give was given up."""
        ...

    def answer(self, model: Any, requests: Sequence[Request]) -> list[Rollout]:
        """One rollout for every request, in any order; called on every process, also with none.

        The model, its gradients and all random states are left as they were. What goes wrong with
        one request is an error line.
        """
        ...

    def close(self) -> None:
        """Stop what was started; safe to call twice."""
        ...


__all__ = ["LiveEngine"]
