"""Head and loss together, chunk by chunk: the logits of all positions never exist at once.

`chunked_loss` has its own gradient: while a chunk's logits are there, the gradients of hidden
states and head are taken from them, so that nothing is computed twice and nothing of the
vocabulary's size is kept but the head's own gradient. `called_loss` calls any head module and
computes a chunk again in the backward pass.

Shapes: R positions, n of a chunk, H hidden width, V vocabulary, S terms; U unlikely tokens, whose
hidden states stand behind the R.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from coordeval.training.losses.row_plan import RowPlan
from coordeval.training.losses.slot_terms import UNLIKELIHOOD, term_sums
from coordeval.training.losses.term import widened
from coordeval.training.losses.unlikelihood import unlikelihood_in_place, unlikelihood_per_token
from coordeval.training.losses.vocabulary_split import (
    Split,
    logits_gradient,
    split_in_place,
    split_logits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from coordeval.training.losses.slot_terms import TermSettings

    Observer = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is summed over which positions.

    `factors_S` are weight / denominator of the terms `names`; `temperature` is the one that the
    vocabulary is summed at besides 1. `observe(rows_n, logits_nV)` sees each chunk's float32
    logits before they are overwritten, and must neither keep nor change them. `unlikely_U` are
    tokens to be pushed down, each at a hidden state of its own.
    """

    names: tuple[str, ...]
    factors_S: Tensor
    plan: RowPlan
    chunk: int
    coord_ids_K: Tensor
    settings: TermSettings
    temperature: float
    unlikely_U: Tensor
    observe: Observer | None = None

    def tempered_from(self, plan: RowPlan) -> int:
        """The first row whose vocabulary is summed at the temperature: text asks by its gate."""
        return 0 if "text_gate" in self.names else plan.num_text

    def chunks(self) -> Iterator[RowPlan | Tensor]:
        """The plan in chunks, then the unlikely tokens in chunks."""
        yield from self.plan.chunks(self.chunk)
        if len(self.unlikely_U):
            yield from torch.split(self.unlikely_U, self.chunk)

    def as_sums(self, unlikelihood: Tensor) -> Tensor:
        """Sums (S,) of a chunk of unlikely tokens: 0 of every other term."""
        is_it_S = torch.tensor([n == UNLIKELIHOOD for n in self.names], device=unlikelihood.device)
        return torch.where(is_it_S, unlikelihood, torch.zeros_like(unlikelihood))


def chunked_loss(
    hidden_RH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, work: Work
) -> tuple[Tensor, Tensor]:
    """(sum of factor * term sum, the term sums (S,) without gradient) of a linear head.

    The product is taken in autocast's type where it is on, else in the wider of the two types,
    its result and all that follows in float32 (float64 stays). The gradient of the head adds up
    in float32 over the chunks. One derivative only: `create_graph=True` raises RuntimeError.
    """
    device = hidden_RH.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = torch.promote_types(hidden_RH.dtype, weight_VH.dtype)
    if not torch.is_grad_enabled():
        loss, sums_S, _ = _pass(hidden_RH, weight_VH, bias_V, work, dtype, (False, False, False))
        return loss, sums_S
    loss, sums_S = _ChunkedLoss.apply(hidden_RH, weight_VH, bias_V, work, dtype)  # type: ignore[no-untyped-call]
    return loss, sums_S


def called_loss(
    hidden_RH: Tensor, head: Callable[[Tensor], Tensor], work: Work
) -> tuple[Tensor, Tensor]:
    """The same by calling `head` on each chunk.

    Without any row it is called once, on none, so that its parameters are part of the graph.
    """
    zeros_S = torch.zeros_like(work.factors_S)
    loss, sums_S = widened(hidden_RH[:0]).sum(), zeros_S
    start = 0
    for part in list(work.chunks()) or [work.plan.part(0, 0)]:
        rows_nH = hidden_RH[start : start + len(part)]
        start += len(part)
        if torch.is_grad_enabled():
            part_loss, part_sums_S = checkpoint(
                _called_chunk, rows_nH, head, work, part, _Once(work), use_reentrant=False
            )
        else:
            part_loss, part_sums_S = _called_chunk(rows_nH, head, work, part, _Once(work))
        loss, sums_S = loss + part_loss, sums_S + part_sums_S
    return loss, sums_S


def _called_chunk(
    rows_nH: Tensor,
    head: Callable[[Tensor], Tensor],
    work: Work,
    part: RowPlan | Tensor,
    observe: _Once,
) -> tuple[Tensor, Tensor]:
    logits_nV = widened(head(rows_nH))
    # The head runs as the caller's autocast says; the losses are float32.
    with torch.autocast(rows_nH.device.type, enabled=False):
        if isinstance(part, RowPlan):
            observe(part.rows_R, logits_nV.detach())
            labels_T = part.labels_R[: part.num_text]
            split = split_logits(
                logits_nV, work.coord_ids_K, labels_T, work.temperature, work.tempered_from(part)
            )
            sums_S = term_sums(work.names, split, part, work.settings)
        else:
            sums_S = work.as_sums(unlikelihood_per_token(logits_nV, part).sum())
        return (sums_S * work.factors_S).sum(), sums_S.detach()


class _Once:
    """A chunk's observer, which does not see the chunk again when it is computed again."""

    def __init__(self, work: Work) -> None:
        self._observe = work.observe

    def __call__(self, rows_n: Tensor, logits_nV: Tensor) -> None:
        observe, self._observe = self._observe, None
        if observe is not None:
            observe(rows_n, logits_nV)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        work: Work,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[:3]
        loss, sums_S, gradients = _pass(hidden_RH, weight_VH, bias_V, work, dtype, wanted)
        ctx.mark_non_differentiable(sums_S)
        ctx.save_for_backward(*gradients)
        return loss, sums_S

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _sums_S: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            # The gradients were taken as numbers: a graph on top of them would be silently wrong.
            raise RuntimeError("the stage-1 objective has no second derivative")
        # As they are where the loss was not scaled: a copy of the head's gradient would double
        # the largest piece of memory there is.
        scaled = bool(upstream != 1)
        gradients = (
            gradient * upstream.to(gradient.dtype) if scaled and gradient is not None else gradient
            for gradient in ctx.saved_tensors
        )
        return (*gradients, None, None)


def _pass(
    hidden_RH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    work: Work,
    dtype: torch.dtype,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Loss, term sums, and the wanted gradients of hidden states, head and bias."""
    with torch.no_grad(), torch.autocast(hidden_RH.device.type, enabled=False):
        cast_VH = weight_VH.to(dtype)
        cast_V = None if bias_V is None else bias_V.to(dtype)
        # The gradient is taken before a loss scaler acts on it, and float16 would lose it.
        back_dtype = torch.float32 if dtype == torch.float16 else dtype
        back_VH = weight_VH.to(back_dtype) if any(wanted) and back_dtype != dtype else cast_VH
        grads = _Gradients(hidden_RH, weight_VH, bias_V, wanted)
        sums_S = torch.zeros_like(work.factors_S)
        start = 0
        for part in work.chunks():
            here = slice(start, start + len(part))
            start += len(part)
            rows_nH = hidden_RH[here].to(dtype)
            logits_nV = widened(functional.linear(rows_nH, cast_VH, cast_V))
            if isinstance(part, RowPlan):
                if work.observe is not None:
                    work.observe(part.rows_R, logits_nV)
                part_S, grad_nV = _chunk(logits_nV, part, work, wants_gradient=any(wanted))
            else:
                part_S, grad_nV = _unlikely_chunk(logits_nV, part, work)
            del logits_nV
            sums_S += part_S
            if grad_nV is not None:
                grads.add(here, grad_nV.to(back_dtype), rows_nH.to(back_dtype), back_VH)
        loss = (sums_S * work.factors_S).sum()
        return loss, sums_S, grads.finished()


def _chunk(
    logits_nV: Tensor, plan: RowPlan, work: Work, *, wants_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Term sums of a chunk, and the gradient of its loss to the logits, in their memory."""
    labels_T = plan.labels_R[: plan.num_text]
    split, buffers = split_in_place(
        logits_nV, work.coord_ids_K, labels_T, work.temperature, work.tempered_from(plan)
    )
    if not wants_gradient:
        return term_sums(work.names, split, plan, work.settings), None
    leaves = [part for part in split if part is not None]
    with torch.enable_grad():
        for leaf in leaves:
            leaf.requires_grad_(True)
        sums_S = term_sums(work.names, split, plan, work.settings)
        if not sums_S.requires_grad:  # argmax boxes alone: nothing to learn from
            return sums_S, None
        grads = iter(
            torch.autograd.grad(
                (sums_S * work.factors_S).sum(), leaves, allow_unused=True, materialize_grads=True
            )
        )
    gradient = Split(*(None if part is None else next(grads) for part in split))  # type: ignore[arg-type]
    grad_nV = logits_gradient(gradient, buffers, work.coord_ids_K, labels_T, work.temperature)
    return sums_S.detach(), grad_nV


def _unlikely_chunk(logits_nV: Tensor, tokens_n: Tensor, work: Work) -> tuple[Tensor, Tensor]:
    """The same of a chunk of unlikely tokens."""
    value, grad_nV = unlikelihood_in_place(logits_nV, tokens_n)
    return work.as_sums(value), grad_nV.mul_(work.factors_S[work.names.index(UNLIKELIHOOD)])


class _Gradients:
    """The gradients of hidden states, head and bias as they add up over the chunks."""

    def __init__(
        self,
        hidden_RH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        wanted: tuple[bool, bool, bool],
    ) -> None:
        self._inputs = (hidden_RH, weight_VH, bias_V)
        self._wanted = wanted
        self._hidden_RH = torch.zeros_like(hidden_RH) if wanted[0] else None
        self._weight_VH: Tensor | None = None
        self._bias_V: Tensor | None = None

    def add(self, here: slice, grad_nV: Tensor, rows_nH: Tensor, weight_VH: Tensor) -> None:
        """Take in one chunk: its gradient to the logits, its hidden states, the head."""
        if self._hidden_RH is not None:
            self._hidden_RH[here] = grad_nV @ weight_VH
        if self._wanted[1]:
            if self._weight_VH is None:
                self._weight_VH = grad_nV.T @ rows_nH
            elif grad_nV.dtype == widened(self._weight_VH).dtype:
                self._weight_VH.addmm_(grad_nV.T, rows_nH)
            else:
                self._weight_VH = widened(self._weight_VH).add_(grad_nV.T @ rows_nH)
        if self._wanted[2]:
            sum_V = widened(grad_nV).sum(dim=0)
            self._bias_V = sum_V if self._bias_V is None else self._bias_V + sum_V

    def finished(self) -> list[Tensor | None]:
        """Each in the type of what it belongs to; None where it is not wanted."""
        totals = (self._hidden_RH, self._weight_VH, self._bias_V)
        out: list[Tensor | None] = []
        for source, wanted, total in zip(self._inputs, self._wanted, totals, strict=True):
            if not wanted or source is None:
                out.append(None)
            else:
                out.append(torch.zeros_like(source) if total is None else total.to(source.dtype))
        return out


__all__ = ["Observer", "Work", "called_loss", "chunked_loss"]
