"""The objective of both stages: every term over its own positions, by one pass over the vocabulary.

Shapes: N positions (shifted: row n predicts label n), H hidden width, V vocabulary, K bins, M
boxes of four coordinate slots, U tokens that must not stand where they might.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from coordeval.training.losses.chunked_head import Work, called_loss, chunked_loss
from coordeval.training.losses.head import linear_head
from coordeval.training.losses.objective_inputs import (
    check_labels,
    check_shapes,
    checked_text_weights,
    checked_unlikely,
    checked_weights,
)
from coordeval.training.losses.row_plan import PositionTable
from coordeval.training.losses.slot_terms import (
    BOX_TERMS,
    SLOT_TERMS,
    TEXT_TERMS,
    UNLIKELIHOOD,
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


@dataclass(slots=True)
class _Shared:
    """What an objective and its terms looked at alone have in common, changes included."""

    settings: TermSettings


class Stage1Objective:
    """Sum over the terms of weight * sum / denominator, with its gradient.

    `text_ce` and `text_gate` are taken at supervised text (the gate not at end tokens), `hard_ce`,
    `soft_ce`, `w1` and `gate` at coordinate slots, `smooth_l1`, `ciou` and `giou` over boxes; which
    position is which is read from the labels alone. Formulas stand in the terms' own files. A
    weight of 0 leaves a term out.

    Stage 2 weighs text tokens one by one and pushes tokens down (`unlikelihood`), wherever their
    row is. A text token of weight 0 is as good as not supervised: it counts nowhere, the text gate
    included, and costs nothing. Of the others the gate asks the same, whatever they weigh.
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
        self.weights = checked_weights(given)
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
        self._chunk, self._joint_ce = chunk, joint_ce
        settings = TermSettings(
            hard_ce_over_vocabulary=hard_ce_over == "vocabulary",
            sigma=sigma,
            truncate=truncate,
            temperature=temperature,
            box_decode=box.decode,
            box_temperature=box.temperature,
            box_beta=box.beta,
        )
        self._shared = _Shared(settings)
        self.set_sigma(sigma)

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

    @property
    def sigma(self) -> float:
        """Width of the soft target, in bins."""
        return self._shared.settings.sigma

    def set_sigma(self, sigma: float) -> None:
        """Take another width from the next `compute` on; also for what `only` has given out.

        Raises ValueError for one that is negative or not finite.
        """
        if not (math.isfinite(sigma) and sigma >= 0):
            raise ValueError(f"sigma must be finite and not negative, not {sigma}")
        self._shared.settings = replace(self._shared.settings, sigma=sigma)

    def counts(
        self,
        labels_N: Tensor,
        box_slots_M4: Tensor | None = None,
        *,
        text_weights_N: Tensor | None = None,
        unlikely_U2: Tensor | None = None,
    ) -> dict[str, float]:
        """How much each term would sum over, from labels alone; labels of any shape.

        `text_ce`: supervised text tokens, or the sum of their weights (of the labels' shape);
        `text_gate`: those without end tokens and without weights of 0; terms on slots: coordinate
        labels; box terms: boxes; `unlikelihood`: U. What is not given counts 0. Labels of -100
        count nowhere. Added up over an accumulation window and all processes these are the
        denominators. Raises ValueError for weights that `compute` refuses.
        """
        weights_N = checked_text_weights(text_weights_N, labels_N)
        labels_N = self._table.taught(labels_N, weights_N).reshape(-1)
        is_slot_N = self._table.bins(labels_N) >= 0
        slots = int(is_slot_N.sum())
        text: float = int((labels_N >= 0).sum()) - slots
        if weights_N is not None:
            is_text_N = (labels_N >= 0) & ~is_slot_N
            text = float(weights_N.reshape(-1)[is_text_N].double().sum())
        boxes = 0 if box_slots_M4 is None else box_slots_M4.shape[0]
        of: dict[str, float] = {
            **dict.fromkeys(SLOT_TERMS, slots),
            **dict.fromkeys(BOX_TERMS, boxes),
        }
        of |= {"text_ce": text, "text_gate": int(self._table.gated(labels_N).sum())}
        of[UNLIKELIHOOD] = 0 if unlikely_U2 is None else unlikely_U2.shape[0]
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
        text_weights_N: Tensor | None = None,
        unlikely_U2: Tensor | None = None,
        scale: float = 1.0,
        observe: Observer | None = None,
    ) -> tuple[Tensor, dict[str, LossTerm]]:
        """(Loss with gradient, every term's detached sum and count) of N positions.

        `head` is the head's weight (V, H), a linear module, or anything that turns (n, H) into
        (n, V): what is not a plain matrix product is called, chunk by chunk. `labels_N` are
        token ids, -100 where nothing is supervised; `box_slots_M4` are places among the N.
        `text_weights_N` multiply the cross-entropy of text (None: 1 each; without meaning at
        slots). `unlikely_U2` (long) are pairs of a place among the N, supervised or not, and the id
        of a token that is to be less probable there; a place may have several, of any kind.
        Denominators are used as they are given; one of 0 divides by 1, for it has nothing to
        divide. `scale` multiplies the loss: the number of processes, to undo the mean that is taken
        over them; after the fact it would cost a copy of the head's gradient. Without a position
        the loss is 0, part of the graph, and all gradients are 0. Float32 inside, whatever comes
        in; one derivative only.
        `observe(rows_n, logits_nV)` sees each chunk's float32 logits in passing, once, so that
        diagnostics need no second pass (text of weight 0 and unlikely tokens are not among them).
        Raises ValueError for shapes that do not fit, a denominator that is missing or not finite,
        labels and unlikely tokens outside the vocabulary, weights that are negative or not finite,
        and boxes whose slots hold no coordinate.
        """
        check_shapes(hidden_NH, labels_N)
        linear = linear_head(head)
        vocabulary = None if linear is None else linear.weight_VH.shape[0]
        if vocabulary is not None and int(self._coord_ids_K.max()) >= vocabulary:
            raise ValueError(f"coordinate ids go beyond the head's {vocabulary} rows")
        plan = self._plan(labels_N, box_slots_M4, text_weights_N)
        check_labels(labels_N, vocabulary)
        rows_U, tokens_U = self._unlikely(unlikely_U2, labels_N, vocabulary)
        work = Work(
            names=self.denominator_names,
            factors_S=self._factors(denominators, hidden_NH) * scale,
            plan=plan,
            chunk=self._chunk_size(head),
            coord_ids_K=self._coord_ids_K.to(hidden_NH.device),
            settings=self._shared.settings,
            temperature=self._vocabulary_temperature(),
            unlikely_U=tokens_U,
            observe=observe,
        )
        rows_R = torch.cat([plan.rows_R, rows_U]) if len(rows_U) else plan.rows_R
        hidden_RH = hidden_NH.index_select(0, rows_R)
        if linear is not None:
            loss, sums_S = chunked_loss(hidden_RH, linear.weight_VH, linear.bias_V, work)
        else:
            assert not isinstance(head, torch.Tensor), "a sharded weight: hand over its module"
            loss, sums_S = called_loss(hidden_RH, head, work)
        counts = self.counts(
            labels_N, box_slots_M4, text_weights_N=text_weights_N, unlikely_U2=unlikely_U2
        )
        terms = {
            name: LossTerm(loss_sum, counts[name])
            for name, loss_sum in zip(work.names, sums_S.unbind(), strict=True)
        }
        return loss, terms

    def only(self, *names: str) -> Stage1Objective:
        """The same objective with some of its terms alone, for looking at each one's gradient.

        Raises ValueError for a term without a weight.
        """
        unknown = [name for name in names if name not in self.weights]
        if unknown or not names:
            raise ValueError(f"terms without a weight: {', '.join(unknown) or 'none named'}")
        part = copy.copy(self)
        part.weights = checked_weights({name: self.weights[name] for name in names})
        return part

    def _plan(
        self, labels_N: Tensor, box_slots_M4: Tensor | None, text_weights_N: Tensor | None
    ) -> RowPlan:
        weights_N = checked_text_weights(text_weights_N, labels_N)
        return self._table.plan(
            self._table.taught(labels_N, weights_N),
            box_slots_M4 if any(name in BOX_TERMS for name in self.weights) else None,
            text=any(name in TEXT_TERMS for name in self.weights),
            slots=any(name in (*SLOT_TERMS, *BOX_TERMS) for name in self.weights),
            text_weights_N=weights_N,
        )

    def _unlikely(
        self, unlikely_U2: Tensor | None, labels_N: Tensor, vocabulary: int | None
    ) -> tuple[Tensor, Tensor]:
        """Rows and tokens that the term is taken over: none where it has no weight."""
        rows_U, tokens_U = checked_unlikely(unlikely_U2, labels_N, vocabulary)
        return (rows_U, tokens_U) if UNLIKELIHOOD in self.weights else (rows_U[:0], tokens_U[:0])

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
        return self._shared.settings.temperature if gated else 1.0

    def _factors(self, denominators: Mapping[str, float], hidden_NH: Tensor) -> Tensor:
        missing = [name for name in self.weights if name not in denominators]
        if missing:
            raise ValueError(f"no denominator for {', '.join(missing)}")
        values = {name: float(denominators[name]) for name in self.weights}
        if not all(math.isfinite(value) and value >= 0 for value in values.values()):
            raise ValueError(f"denominators must be finite and not negative: {values}")
        return torch.tensor(
            [weight / (values[name] or 1.0) for name, weight in self.weights.items()],
            dtype=torch.promote_types(hidden_NH.dtype, torch.float32),
            device=hidden_NH.device,
        )


__all__ = ["CHUNK_NUMBERS", "Stage1Objective"]
