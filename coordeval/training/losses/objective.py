"""The stage-1 objective: every term over its own positions, by one pass over the vocabulary.

Shapes: N positions (shifted: row n predicts label n), H hidden width, V vocabulary, K bins, M
boxes of four coordinate slots.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.chunked_head import Work, called_loss, chunked_loss
from coordeval.training.losses.head import linear_head
from coordeval.training.losses.row_plan import IGNORED, PositionTable
from coordeval.training.losses.slot_terms import (
    BOX_TERMS,
    TERM_NAMES,
    TEXT_TERMS,
    TermSettings,
)
from coordeval.training.losses.term import LossTerm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from coordeval.training.config import BoxLossConfig, HardCeOver, ObjectiveConfig
    from coordeval.training.losses.chunked_head import Observer
    from coordeval.training.losses.head import Head
    from coordeval.training.losses.row_plan import RowPlan

CHUNK_NUMBERS = 1 << 26
"""Logits that exist at a time (256 MiB in float32), whatever vocabulary and batch are."""


class Stage1Objective:
    """Sum over the terms of weight * sum / denominator, with its gradient.

    `text_ce` and `text_gate` are taken at supervised text (the gate not at end tokens), `hard_ce`,
    `soft_ce`, `w1` and `gate` at coordinate slots, `smooth_l1`, `ciou` and `giou` over boxes; which
    position is which is read from the labels alone. Formulas stand in the terms' own files. A
    weight of 0 leaves a term out.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        coord_ids_K: Tensor | Sequence[int],
        *,
        hard_ce_over: HardCeOver = "vocabulary",
        sigma: float = 2.0,
        truncate: int | None = 16,
        temperature: float = 1.0,
        box: BoxLossConfig | None = None,
        end_ids: Sequence[int] = (),
        chunk: int | None = None,
        joint_ce: bool = False,
    ) -> None:
        """`coord_ids_K[k]` is the token id of bin k, `end_ids` the tokens that end an answer.

        `weights` go by the terms' names; a box term that is not among them has its weight in
        `box`. `chunk` is the number of positions whose logits exist at a time (None: as many as
        make 256 MiB). With `joint_ce` both cross-entropies share one divisor (see `divisors`).
        Raises ValueError for an unknown term, a negative weight, no weight at all,
        ids that are not distinct, or settings out of range.
        """
        from coordeval.training.config import BoxLossConfig

        box = BoxLossConfig() if box is None else box
        given = {name: float(getattr(box, name)) for name in BOX_TERMS}
        given |= {name: float(weight) for name, weight in weights.items()}
        self.weights = _checked_weights(given)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        if hard_ce_over not in ("vocabulary", "coordinates"):
            raise ValueError(f"hard_ce_over: {hard_ce_over!r} is not known")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, not {chunk}")
        self._coord_ids_K = torch.as_tensor(coord_ids_K, dtype=torch.long).cpu()
        if not 2 <= len(set(self._coord_ids_K.tolist())) == self._coord_ids_K.numel():
            raise ValueError("coordinate ids must be two or more, all distinct")
        self._table = PositionTable(
            self._coord_ids_K, torch.tensor(list(end_ids), dtype=torch.long)
        )
        self._end_ids = tuple(end_ids)
        self._box, self._chunk, self._joint_ce = box, chunk, joint_ce
        self._settings = TermSettings(
            hard_ce_over_vocabulary=hard_ce_over == "vocabulary",
            sigma=sigma,
            truncate=truncate,
            temperature=temperature,
            box_decode=box.decode,
            box_temperature=box.temperature,
            box_beta=box.beta,
        )

    @classmethod
    def from_config(
        cls,
        config: ObjectiveConfig,
        coord_ids_K: Tensor | Sequence[int],
        *,
        end_ids: Sequence[int] = (),
        chunk: int | None = None,
    ) -> Stage1Objective:
        """The objective that a configuration asks for."""
        return cls(
            config.weights(),
            coord_ids_K,
            hard_ce_over=config.hard_ce_over,
            sigma=config.sigma,
            truncate=config.truncate,
            temperature=config.temperature,
            box=config.box,
            end_ids=end_ids,
            chunk=chunk,
            joint_ce=config.joint_ce,
        )

    @property
    def denominator_names(self) -> tuple[str, ...]:
        """The terms with a weight; each has a denominator of its own under its name."""
        return tuple(self.weights)

    def counts(self, labels_N: Tensor, box_slots_M4: Tensor | None = None) -> dict[str, int]:
        """How much each term would sum over, from labels alone; labels of any shape.

        `text_ce`: supervised text tokens; `text_gate`: those without end tokens; terms on slots:
        coordinate labels; box terms: boxes (0 without `box_slots_M4`). Labels of -100 count
        nowhere. Added up over an accumulation window and all processes these are the denominators.
        """
        labels_N = labels_N.reshape(-1)
        slots = int((self._table.bins(labels_N) >= 0).sum())
        text = int((labels_N >= 0).sum()) - slots
        boxes = 0 if box_slots_M4 is None else box_slots_M4.shape[0]
        of = dict.fromkeys(TERM_NAMES, slots) | dict.fromkeys(BOX_TERMS, boxes)
        of |= {"text_ce": text, "text_gate": int(self._table.gated(labels_N).sum())}
        return {name: of[name] for name in self.weights}

    def divisors(self, counts: Mapping[str, float]) -> dict[str, float]:
        """What `compute` is to divide each term by, from the counts of a whole window.

        Each term's own count; with `joint_ce`, `text_ce` and `hard_ce` by the tokens of both, which
        makes their sum (at weights of 1) the ordinary cross-entropy over all supervised tokens.
        """
        out = {name: float(count) for name, count in counts.items()}
        if self._joint_ce:
            both = [name for name in ("text_ce", "hard_ce") if name in out]
            out |= dict.fromkeys(both, sum(out[name] for name in both))
        return out

    def compute(
        self,
        hidden_NH: Tensor,
        head: Head,
        labels_N: Tensor,
        denominators: Mapping[str, float],
        *,
        box_slots_M4: Tensor | None = None,
        scale: float = 1.0,
        calls: int = 0,
        observe: Observer | None = None,
    ) -> tuple[Tensor, dict[str, LossTerm]]:
        """(Loss with gradient, every term's detached sum and count) of N positions.

        `head` is the head's weight (V, H), a linear module, or anything that turns (n, H) into
        (n, V): what is not a plain matrix product is called, chunk by chunk, at least `calls`
        times (where it is sharded: the largest `head_calls` of all processes). `labels_N` are
        token ids, -100 where nothing is supervised; `box_slots_M4` are places among the N.
        Denominators are used as they are given, but at least 1. `scale` multiplies the loss: the
        number of processes, to undo the mean that is taken over them; after the fact it would
        cost a copy of the head's gradient. Without a position the loss is 0, part of the graph,
        and all gradients are 0. Float32 inside, whatever comes in; one derivative only.
        `observe(rows_n, logits_nV)` sees each chunk's float32 logits in passing, once, so that
        diagnostics need no second pass. Raises ValueError for shapes that do not fit, a
        denominator that is missing or not finite, labels outside the vocabulary, and boxes whose
        slots hold no coordinate.
        """
        _check_shapes(hidden_NH, labels_N)
        plan = self._plan(labels_N, box_slots_M4)
        linear = linear_head(head)
        vocabulary = None if linear is None else linear.weight_VH.shape[0]
        self._check_labels(labels_N, vocabulary)
        work = Work(
            names=self.denominator_names,
            factors_S=self._factors(denominators, hidden_NH) * scale,
            plan=plan,
            chunk=self._chunk_size(head),
            coord_ids_K=self._coord_ids_K.to(hidden_NH.device),
            settings=self._settings,
            temperature=self._vocabulary_temperature(),
            observe=observe,
        )
        hidden_RH = hidden_NH.index_select(0, plan.rows_R)
        if linear is not None:
            loss, sums_S = chunked_loss(hidden_RH, linear.weight_VH, linear.bias_V, work)
        else:
            assert not isinstance(head, torch.Tensor), "a sharded weight: hand over its module"
            loss, sums_S = called_loss(hidden_RH, head, work, calls)
        counts = self.counts(labels_N, box_slots_M4)
        terms = {
            name: LossTerm(loss_sum, counts[name])
            for name, loss_sum in zip(work.names, sums_S.unbind(), strict=True)
        }
        return loss, terms

    def head_calls(self, head: Head, labels_N: Tensor, box_slots_M4: Tensor | None = None) -> int:
        """How often `compute` would call a head that is not a plain matrix product."""
        plan = self._plan(labels_N, box_slots_M4)
        return max(1, sum(1 for _ in plan.chunks(self._chunk_size(head))))

    def only(self, *names: str) -> Stage1Objective:
        """The same objective with some of its terms alone, for looking at each one's gradient.

        Raises ValueError for a term without a weight.
        """
        unknown = [name for name in names if name not in self.weights]
        if unknown or not names:
            raise ValueError(f"terms without a weight: {', '.join(unknown) or 'none named'}")
        kept = dict.fromkeys(BOX_TERMS, 0.0) | {name: self.weights[name] for name in names}
        return Stage1Objective(
            kept,
            self._coord_ids_K,
            hard_ce_over="vocabulary" if self._settings.hard_ce_over_vocabulary else "coordinates",
            sigma=self._settings.sigma,
            truncate=self._settings.truncate,
            temperature=self._settings.temperature,
            box=self._box,
            end_ids=self._end_ids,
            chunk=self._chunk,
        )

    def _plan(self, labels_N: Tensor, box_slots_M4: Tensor | None) -> RowPlan:
        return self._table.plan(
            labels_N,
            box_slots_M4 if any(name in BOX_TERMS for name in self.weights) else None,
            text=any(name in TEXT_TERMS for name in self.weights),
            slots=any(name not in TEXT_TERMS for name in self.weights),
        )

    def _chunk_size(self, head: Head) -> int:
        if self._chunk is not None:
            return self._chunk
        if isinstance(head, torch.Tensor):
            vocabulary = head.shape[0]
        else:
            # A sharded weight does not tell its size, but its module does; else a large one.
            vocabulary = int(getattr(head, "out_features", 1 << 18))
        # At another temperature the chunk needs a second buffer of its size.
        buffers = 1 if self._vocabulary_temperature() == 1.0 else 2
        return max(1, CHUNK_NUMBERS // (vocabulary * buffers))

    def _vocabulary_temperature(self) -> float:
        """What the whole vocabulary is summed at besides 1: only the gates ask for another T."""
        gated = "gate" in self.weights or "text_gate" in self.weights
        return self._settings.temperature if gated else 1.0

    def _factors(self, denominators: Mapping[str, float], hidden_NH: Tensor) -> Tensor:
        missing = [name for name in self.weights if name not in denominators]
        if missing:
            raise ValueError(f"no denominator for {', '.join(missing)}")
        values = {name: float(denominators[name]) for name in self.weights}
        if not all(math.isfinite(value) and value >= 0 for value in values.values()):
            raise ValueError(f"denominators must be finite and not negative: {values}")
        return torch.tensor(
            [weight / max(values[name], 1.0) for name, weight in self.weights.items()],
            dtype=torch.promote_types(hidden_NH.dtype, torch.float32),
            device=hidden_NH.device,
        )

    def _check_labels(self, labels_N: Tensor, vocabulary: int | None) -> None:
        if vocabulary is not None and int(self._coord_ids_K.max()) >= vocabulary:
            raise ValueError(f"coordinate ids go beyond the head's {vocabulary} rows")
        if not labels_N.numel():
            return
        largest = int(labels_N.max())
        if vocabulary is not None and largest >= vocabulary:
            raise ValueError(f"label {largest} is beyond the head's {vocabulary} rows")
        if bool(((labels_N < 0) & (labels_N != IGNORED)).any()):
            raise ValueError(f"labels are token ids, or {IGNORED} where nothing is supervised")


def _checked_weights(given: Mapping[str, float]) -> dict[str, float]:
    """The weights above 0, in the terms' order."""
    unknown = sorted(set(given) - set(TERM_NAMES))
    if unknown:
        raise ValueError(f"unknown terms: {', '.join(unknown)}; there are {', '.join(TERM_NAMES)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given.values()):
        raise ValueError("weights must be finite and not negative")
    weights = {name: given[name] for name in TERM_NAMES if given.get(name)}
    if not weights:
        raise ValueError("no loss term has a weight")
    return weights


def _check_shapes(hidden_NH: Tensor, labels_N: Tensor) -> None:
    if hidden_NH.ndim != 2 or labels_N.ndim != 1 or len(hidden_NH) != len(labels_N):
        raise ValueError(
            f"hidden states (N, H) and labels (N,), not {tuple(hidden_NH.shape)} and "
            f"{tuple(labels_N.shape)}"
        )


__all__ = ["CHUNK_NUMBERS", "Stage1Objective"]
