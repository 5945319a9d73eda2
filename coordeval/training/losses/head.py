"""Which heads can be read as a plain matrix product, and which must be called."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Head = Tensor | Callable[[Tensor], Tensor]


HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class LinearHead(NamedTuple):
    """A head that is hidden @ weight.T + bias and nothing else."""

    weight_VH: Tensor
    bias_V: Tensor | None


def linear_head(head: Head) -> LinearHead | None:
    """The matrix of a head; None where only calling it is right.

    A tensor is its own matrix. Of modules, `nn.Linear` itself counts, unless something has been
    put between it and its weights: a forward of its own (offloading), hooks, a parametrization, a
    weight that is sharded or not there. Adapters, wrappers, quantised layers are other classes.
    """
    if isinstance(head, torch.Tensor):
        return None if _is_elsewhere(head) else LinearHead(head, None)
    # Exactly this class: subclasses (adapters, parametrized or sharded layers) do more.
    if type(head) is not nn.Linear or "forward" in vars(head):
        return None
    if any(getattr(head, name) for name in HOOKS) or _is_elsewhere(head.weight):
        return None
    return LinearHead(head.weight, head.bias)


def _is_elsewhere(weight: Tensor) -> bool:
    """Sharded by torch (its type tells), by DeepSpeed (an id and no numbers), or on no device."""
    plain = type(weight) in (torch.Tensor, nn.Parameter)
    return not plain or hasattr(weight, "ds_id") or weight.is_meta


__all__ = ["Head", "LinearHead", "linear_head"]
