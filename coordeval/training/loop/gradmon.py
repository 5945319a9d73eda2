"""Each term's own gradient on one small shared parameter, and how it points to the total.

The parameter is the gain of the last norm before the head, which every taught position passes
through. Its gradient follows from the hidden states alone, so the monitor adds one pass through
the head per term and touches neither the model's gradients nor any random state. Where the gain is
frozen or the model has none under that name, a gain of 1 on the hidden states is taken instead.

Shapes: N taught positions, H hidden width.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from coordeval.training.loop.forward import term_inputs
from coordeval.training.loop.window import reduced

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from coordeval.training.loop.forward import Taught
    from coordeval.training.losses.objective import Stage1Objective

_NORM = "language_model.norm.weight"


class GradientMonitor:
    """Watches every `every` steps; the gradients are those of the whole window, all processes.

    `max_numel` is the most numbers that the shared parameter may have.
    """

    def __init__(
        self,
        model: Any,
        *,
        every: int,
        max_numel: int,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._every, self._autocast = every, autocast
        self._norm = _owner(model, shared_gain(model, max_numel))
        self._parts: dict[str, dict[str, Stage1Objective]] = {}
        self._sums: dict[str, Tensor] = {}
        self._seconds = 0.0
        self.active = False

    def begin(self, step: int) -> None:
        """Say which step comes next."""
        self.active = self._every > 0 and step % self._every == 0
        self._parts, self._sums, self._seconds = {}, {}, 0.0

    def inspect(self, taught: Taught) -> None:
        """Add one pass's gradients; called in the forward pass, before the loss.

        Terms have the names that they are logged under.
        """
        started = time.monotonic()
        if taught.at not in self._parts:
            whole = taught.objective
            self._parts[taught.at] = {n: whole.only(n) for n in whole.denominator_names}
        for name, objective in self._parts[taught.at].items():
            full, gradient = taught.at + name, self._gradient(taught, objective)
            self._sums[full] = self._sums[full] + gradient if full in self._sums else gradient
        self._seconds += time.monotonic() - started

    def _gradient(self, taught: Taught, objective: Stage1Objective) -> Tensor:
        leaf_NH = taught.hidden_NH.detach().requires_grad_(True)
        with torch.enable_grad(), self._autocast():
            loss, _ = objective.compute(
                leaf_NH,
                _detached(taught.head),
                taught.places.labels_N,
                taught.denominators,
                **term_inputs(taught.places),
            )
            (upstream_NH,) = torch.autograd.grad(loss, leaf_NH)
        if self._norm is not None and taught.hidden_NH.requires_grad:
            # Read now: FSDP puts another tensor there for the time of a forward pass.
            gain_H: Tensor = self._norm.weight
            (gradient_H,) = torch.autograd.grad(
                taught.hidden_NH, gain_H, upstream_NH, retain_graph=True
            )
            return gradient_H.detach().double()
        return (upstream_NH.double() * leaf_NH.detach().double()).sum(dim=0)

    def finish(self, accelerator: Any) -> dict[str, float | None]:
        """The window's `gradmon/*`; a reduction on every process."""
        names = list(self._sums)
        if not names:  # a channel that shows nothing of its inside
            return {}
        own_TH = np.stack([self._sums[name].cpu().numpy() for name in names])
        together = reduced(own_TH.flatten(), accelerator).reshape(own_TH.shape)
        out = gradient_metrics(dict(zip(names, together, strict=True)))
        return out | {"gradmon/seconds": self._seconds}


def shared_gain(model: Any, max_numel: int) -> nn.Parameter | None:
    """The last norm's gain, where it learns and is small enough; else None."""
    found: nn.Parameter | None = None
    for name, parameter in model.named_parameters():
        if name.endswith(_NORM) and parameter.requires_grad and parameter.numel() <= max_numel:
            found = parameter
    return found


def _owner(model: Any, gain: nn.Parameter | None) -> Any:
    """The module whose `weight` the gain is; None without a gain."""
    if gain is None:
        return None
    return next(module for module in model.modules() if getattr(module, "weight", None) is gain)


def gradient_metrics(gradients: dict[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Norms, cosines to the total, and how much the terms disagree.

    `grad_norm/<term>`, `cos_to_total/<term>` (None for a gradient of 0), `neg_cosine_pair_frac`
    (pairs of terms that point apart), `neg_cos_to_total_frac`, `grad_norm_ratio_max_over_median`,
    `num_terms` and `shared_param_numel`, all under `gradmon/`. Terms are weighted.
    """
    total = np.sum(list(gradients.values()), axis=0)
    norms = {name: float(np.linalg.norm(value)) for name, value in gradients.items()}
    to_total = {name: _cosine(value, total) for name, value in gradients.items()}
    listed = list(gradients.values())
    pairs = [
        cosine
        for place, one in enumerate(listed)
        for other in listed[place + 1 :]
        if (cosine := _cosine(one, other)) is not None
    ]
    known = [cosine for cosine in to_total.values() if cosine is not None]
    middle = median(norms.values())
    out: dict[str, float | None] = {
        f"gradmon/grad_norm/{name}": value for name, value in norms.items()
    }
    out |= {f"gradmon/cos_to_total/{name}": value for name, value in to_total.items()}
    return out | {
        "gradmon/grad_norm_total": float(np.linalg.norm(total)),
        "gradmon/grad_norm_ratio_max_over_median": max(norms.values()) / middle if middle else None,
        "gradmon/neg_cosine_pair_frac": _share_below_zero(pairs),
        "gradmon/neg_cos_to_total_frac": _share_below_zero(known),
        "gradmon/num_terms": len(gradients),
        "gradmon/shared_param_numel": int(total.size),
    }


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 0 else None


def _share_below_zero(cosines: list[float]) -> float | None:
    return sum(cosine < 0 for cosine in cosines) / len(cosines) if cosines else None


def _detached(head: Any) -> Any:
    """The head's weight without its gradient; a head that is more than a matrix as it is."""
    from coordeval.training.losses.head import linear_head

    linear = linear_head(head)
    if linear is None or linear.bias_V is not None:
        return head
    return linear.weight_VH.detach()


__all__ = ["GradientMonitor", "gradient_metrics", "shared_gain"]
