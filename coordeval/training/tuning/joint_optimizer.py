"""Several optimizers that look like one: to the schedule, to accelerate and in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordeval.training.tuning.coord_only import CoordRows
    from coordeval.training.tuning.param_groups import ParameterGroup

MUON_MOMENTUM = 0.95


class JointOptimizer(torch.optim.Optimizer):
    """Steps several optimizers, each over its own groups; groups and state are shared with them.

    `parts` are optimizers over disjoint parameters. `rows` are taken out of their tables before
    a step and put back after it.
    """

    def __init__(
        self, parts: Sequence[torch.optim.Optimizer], rows: Sequence[CoordRows] = ()
    ) -> None:
        self._parts, self._rows = list(parts), list(rows)
        groups = [group for part in parts for group in part.param_groups]
        self._sizes = [len(part.param_groups) for part in parts]
        super().__init__(groups, {})
        self._share()

    def _share(self) -> None:
        """Let every part work on this object's groups and state."""
        start = 0
        for part, size in zip(self._parts, self._sizes, strict=True):
            part.param_groups = self.param_groups[start : start + size]
            part.state = self.state
            start += size

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every part; `closure` is evaluated first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for rows in self._rows:
            rows.take()
        for part in self._parts:
            part.step()
        for rows in self._rows:
            rows.put()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; the parts go on with it."""
        super().load_state_dict(state_dict)
        self._share()


def build_optimizer(
    groups: Sequence[ParameterGroup],
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    rows: Sequence[CoordRows] = (),
    *,
    rows_lr: float = 0.0,
) -> torch.optim.Optimizer:
    """The optimizer of a training: `make` builds the ordinary one, Muon takes its own groups.

    Raises ConfigError for Muon with torch older than 2.9, and where nothing learns.
    """
    plain = [_torch_group(group) for group in groups if not group.muon]
    muon = [_torch_group(group) for group in groups if group.muon]
    if rows:
        plain.append(
            {
                "params": [row.rows_KH for row in rows],
                "lr": rows_lr,
                "weight_decay": 0.0,
                "name": "coord_rows",
            }
        )
    if not plain and not muon:
        raise ConfigError("tune: nothing learns")
    parts = [make(plain)] if plain else []
    if muon:
        parts.append(make_muon(muon))
    if len(parts) == 1 and not rows:
        return parts[0]
    return JointOptimizer(parts, rows)


def make_muon(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Torch's Muon over hidden matrices; ConfigError with torch older than 2.9."""
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"tune.muon needs torch 2.9 or newer (this is {torch.__version__}); "
            "set tune.muon: false"
        )
    return torch.optim.Muon(groups, momentum=MUON_MOMENTUM, adjust_lr_fn="original")


def _torch_group(group: ParameterGroup) -> dict[str, Any]:
    return {
        "params": group.parameters,
        "lr": group.lr,
        "weight_decay": group.weight_decay,
        "name": group.name,
    }


__all__ = ["JointOptimizer", "build_optimizer", "make_muon"]
