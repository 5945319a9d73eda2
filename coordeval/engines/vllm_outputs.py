"""What vLLM gives back, as a rollout: text, tokens, why it ended, what the guard saw, telemetry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.engines.base import error_rollout, new_rollout
from coordeval.engines.hf_control import RowControl
from coordeval.engines.hf_text import decode_verbatim, read_answer, read_controlled
from coordeval.engines.top_logprobs import read_slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.decoding.control import ControlPlan, SequenceControl
    from coordeval.decoding.token_table import TokenTable
    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Turns finished outputs into rollouts.

    `plan` is None without control, `table` without control or telemetry. What a processor did
    inside the engine is recomputed here from the token ids alone.
    """

    reader: Reader
    decode: DecodeSettings
    dialect: Dialect
    plan: ControlPlan | None
    table: TokenTable | None

    def rollout(self, request: Request, output: Any, prompt_tokens: int) -> Rollout:
        """The line of one finished `RequestOutput`; an error line where it is not to be trusted."""
        done = output.outputs[0]
        token_ids = list(done.token_ids)
        if done.finish_reason not in {"stop", "length"}:
            return error_rollout(request, f"vLLM gave the request up ({done.finish_reason})")
        seen = len(output.prompt_token_ids)
        if seen != prompt_tokens:
            return error_rollout(
                request, f"vLLM read {seen} prompt tokens where {prompt_tokens} were meant"
            )
        limit = self.decode.max_new_tokens
        if done.finish_reason == "length" and len(token_ids) < limit:
            return error_rollout(
                request,
                f"cut at {len(token_ids)} of {limit} tokens by the longest sequence vLLM was "
                "started for; raise --max-model-len",
            )
        control = None if self.plan is None else self.plan.start(token_ids)
        rollout = self._answered(request, token_ids, control)
        kept = rollout.token_ids or []
        logprobs = sampled_logprobs(done.logprobs, len(token_ids))[: len(kept)]
        broken = next((i for i, value in enumerate(logprobs) if not math.isfinite(value)), None)
        if broken is not None:
            return error_rollout(request, f"the model's logits are not numbers at token {broken}")
        rollout.token_logprobs, rollout.prompt_tokens = logprobs, prompt_tokens
        if self.decode.telemetry and self.table is not None:
            rollout.slots = read_slots(
                kept,
                top_logprobs(done.logprobs),
                table=self.table,
                dialect=self.dialect,
                text_of=lambda token_id: decode_verbatim([token_id], self.reader.tokenizer),
            )
        return rollout

    def _answered(
        self, request: Request, token_ids: list[int], control: SequenceControl | None
    ) -> Rollout:
        """The answer without its log-probabilities, read as the Hugging Face engine reads it."""
        end_ids, tokenizer = self.reader.end_ids, self.reader.tokenizer
        if control is None:
            answer = read_answer(token_ids, end_ids, tokenizer)
        else:
            row = RowControl(control.written, control.verdict, control.stopped, control.error)
            answer = read_controlled(token_ids, row, end_ids, tokenizer)
        guard, error = None, None
        if control is not None:
            error = control.error
            if control.verdict is not None:
                spared = self.decode.max_new_tokens - control.written
                guard = control.verdict.to_json(spared if control.stopped else 0)
        return new_rollout(
            request,
            answer.text,
            finish_reason=answer.finish_reason,
            token_ids=answer.token_ids,
            guard=guard,
            error=error,
        )


def sampled_logprobs(flat: Any, count: int) -> list[float]:
    """Log-probability of each written token; `flat` are vLLM's flat log-probabilities."""
    if flat is None or len(flat.start_indices) != count:
        raise RuntimeError("vLLM gave another number of log-probabilities than of tokens")
    return [flat.logprobs[start] for start in flat.start_indices]


def top_logprobs(flat: Any) -> Sequence[dict[int, float]]:
    """Per position the most probable tokens and their log-probabilities, best first.

    vLLM puts the written token before them, once more.
    """
    return [
        dict(zip(flat.token_ids[start + 1 : end], flat.logprobs[start + 1 : end], strict=True))
        for start, end in zip(flat.start_indices, flat.end_indices, strict=True)
    ]


__all__ = ["Judge", "sampled_logprobs", "top_logprobs"]
