# ruff: noqa: N803, N806 - tensors carry shape suffixes
"""Choosing the next token, row by row, and noting its raw log-probability on the way.

Sampling draws from each rollout's own random stream, one uniform number per step, and inverts the
cumulative distribution: what a row writes depends neither on its neighbours nor on its place.

Shape legend: B rows, N rows that are sampled, S tokens so far, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import LogitsProcessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.hf_control import BatchControl
    from coordeval.engines.hf_telemetry import SlotRecorder


def repetition_penalised(
    logits_BV: torch.Tensor, seen_BV: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Divide positive logits of seen tokens by the penalty, multiply negative ones (CTRL, 2019)."""
    changed = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, changed, logits_BV)


def sampling_probabilities(
    logits_BV: torch.Tensor,
    settings: DecodeSettings,
    temperatures_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Float64 probabilities (B, V) after temperature, then top-k, then top-p; rows sum to 1.

    `temperatures_B` are float64 and above 0, by default all `settings.temperature`. Top-k keeps
    all tokens tied with the k-th. Top-p keeps the smallest set of most probable tokens whose mass
    reaches p (Holtzman et al., 2020), always at least one; ties go to the smaller id.
    """
    if temperatures_B is None:
        temperatures_B = torch.full_like(logits_BV[:, 0], settings.temperature, dtype=torch.float64)
    scaled_BV = logits_BV.double() / temperatures_B[:, None]
    vocabulary_size = scaled_BV.shape[-1]
    if 0 < settings.top_k < vocabulary_size:
        kth_B1 = torch.topk(scaled_BV, settings.top_k).values[:, -1:]
        scaled_BV = scaled_BV.masked_fill(scaled_BV < kth_B1, -torch.inf)
    probabilities_BV = torch.softmax(scaled_BV, dim=-1)
    if settings.top_p < 1.0:
        sorted_BV, order_BV = torch.sort(probabilities_BV, dim=-1, descending=True, stable=True)
        before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
        sorted_BV = sorted_BV.masked_fill(before_BV >= settings.top_p, 0.0)
        probabilities_BV = torch.zeros_like(sorted_BV).scatter(-1, order_BV, sorted_BV)
        probabilities_BV = probabilities_BV / probabilities_BV.sum(dim=-1, keepdim=True)
    return probabilities_BV


def draw(probabilities_BV: torch.Tensor, uniforms_B: torch.Tensor) -> torch.Tensor:
    """Token ids (B,) at which the cumulative distribution first exceeds the uniform number."""
    cumulative_BV = probabilities_BV.cumsum(dim=-1)
    # Scaled to the last value, so that rounding of the sum can never point beyond the vocabulary.
    thresholds_B1 = uniforms_B[:, None] * cumulative_BV[:, -1:]
    chosen_B = torch.searchsorted(cumulative_BV, thresholds_B1, right=True).squeeze(-1)
    last_possible_B = (
        probabilities_BV.shape[-1]
        - 1
        - torch.argmax((probabilities_BV > 0).flip(-1).to(torch.int8), dim=-1)
    )
    return torch.minimum(chosen_B, last_possible_B)


class TokenChooser(LogitsProcessor):  # type: ignore[misc]
    """The only logits processor of a rollout: leaves nothing but the chosen token possible.

    Sits where the raw logits arrive, so the log-probabilities it notes are those of the model
    itself, and so is what `recorder` notes. Then come the masks of `control`, and only then
    repetition penalty, temperature, top-k and top-p: what is not allowed has no probability that a
    penalty could scale or a filter count. Only (B,) numbers are kept per step. `sample_indices`
    (one per row, by default all 0) give the rows' temperatures. A row whose logits are not numbers
    gets the end token and is reported by `broken_at`.
    """

    def __init__(
        self,
        settings: DecodeSettings,
        *,
        seeds: Sequence[int],
        attention_mask_BS: torch.Tensor,
        end_id: int,
        sample_indices: Sequence[int] | None = None,
        control: BatchControl | None = None,
        recorder: SlotRecorder | None = None,
    ) -> None:
        self.settings = settings
        self._streams = [np.random.default_rng(seed) for seed in seeds]
        temperatures = [
            settings.temperature_of(index) for index in sample_indices or [0] * len(seeds)
        ]
        self._sampled = [row for row, value in enumerate(temperatures) if value > 0]
        self._temperatures = [temperatures[row] for row in self._sampled]
        self._mask_BS = attention_mask_BS.bool()
        self._end_id = end_id
        self._control = control
        self._recorder = recorder
        self._seen_BV: torch.Tensor | None = None
        self._steps: list[torch.Tensor] = []
        self._broken: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Raw logits `scores` (B, V) to zeros at the chosen tokens and -inf elsewhere."""
        logits_BV = scores.float()
        log_sum_B = logits_BV.logsumexp(dim=-1)
        broken_B = ~torch.isfinite(log_sum_B)
        logits_BV = logits_BV.masked_fill(broken_B[:, None], 0.0)
        log_sum_B = log_sum_B.masked_fill(broken_B, math.log(scores.shape[-1]))
        if self._recorder is not None:
            self._recorder.note(logits_BV, log_sum_B)
        if self._control is None:
            chosen_B, ends_B = self._choose(input_ids, logits_BV), broken_B
        else:
            written_BS = input_ids[:, self._mask_BS.shape[1] :]
            allowed_BV = self._control.masked(written_BS, logits_BV)
            chosen_B = self._choose(input_ids, allowed_BV)
            ends_B = broken_B | self._control.ends(allowed_BV, chosen_B)
        chosen_B = torch.where(ends_B, self._end_id, chosen_B)
        self._steps.append(logits_BV.gather(-1, chosen_B[:, None]).squeeze(-1) - log_sum_B)
        self._broken.append(broken_B)
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen_B[:, None], 0.0)

    def _choose(self, input_ids_BS: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        if self.settings.repetition_penalty != 1.0:
            seen_BV = self._note_seen(input_ids_BS, logits_BV)
            logits_BV = repetition_penalised(logits_BV, seen_BV, self.settings.repetition_penalty)
        if not self._sampled:
            return logits_BV.argmax(dim=-1)
        device = logits_BV.device
        mixed = len(self._sampled) < len(self._streams)
        rows_N = torch.tensor(self._sampled, device=device)
        sampled_NV = logits_BV.index_select(0, rows_N) if mixed else logits_BV
        draws = [
            (self._streams[row].random(), temperature)
            for row, temperature in zip(self._sampled, self._temperatures, strict=True)
        ]
        uniforms_N, temperatures_N = torch.tensor(draws, dtype=torch.float64).to(device).unbind(-1)
        probabilities_NV = sampling_probabilities(sampled_NV, self.settings, temperatures_N)
        drawn_N = draw(probabilities_NV, uniforms_N)
        if not mixed:
            return drawn_N
        return logits_BV.argmax(dim=-1).index_copy(0, rows_N, drawn_N)

    def _note_seen(self, input_ids_BS: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        """Which tokens stand in the prompt (padding left out) or were written, (B, V) bool."""
        if self._seen_BV is None:
            counts_BV = torch.zeros(logits_BV.shape, dtype=torch.int32, device=logits_BV.device)
            ids_BS = input_ids_BS[:, : self._mask_BS.shape[1]]
            counts_BV.scatter_add_(-1, ids_BS, self._mask_BS.to(torch.int32))
            self._seen_BV = counts_BV > 0
        if input_ids_BS.shape[1] > self._mask_BS.shape[1]:
            self._seen_BV.scatter_(-1, input_ids_BS[:, -1:], True)
        return self._seen_BV

    def logprobs(self) -> list[list[float]]:
        """Natural-log probabilities per row, one per step so far, in float32 precision."""
        if not self._steps:
            return [[] for _ in self._streams]
        rows: list[list[float]] = torch.stack(self._steps, dim=1).cpu().tolist()
        return rows

    def broken_at(self) -> list[int | None]:
        """Per row the first step whose logits were not numbers, None where there is none."""
        if not self._broken:
            return [None for _ in self._streams]
        rows = torch.stack(self._broken, dim=1).cpu().tolist()
        return [row.index(True) if True in row else None for row in rows]


__all__ = ["TokenChooser", "draw", "repetition_penalised", "sampling_probabilities"]
