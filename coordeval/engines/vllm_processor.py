# ruff: noqa: N803, N806 - tensors carry shape suffixes
"""Decode-time control inside vLLM: the same plan as with Hugging Face, as a logits processor.

In process vLLM loads it by name; a server is started with
`--logits-processors coordeval.engines.vllm_processor:CoordevalProcessor`. It acts on requests that
carry `extra_args["coordeval"]` (over HTTP: `vllm_xargs`) and leaves all others alone.

Why a processor and not vLLM's structured outputs: a grammar cannot look at the coordinates that
were written (ordered boxes, sorted objects), nor end a loop.

Shape legend: B rows of the batch, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.logger import init_logger
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality

from coordeval.decoding.control import ControlPlan
from coordeval.decoding.masking import LogitMasker
from coordeval.decoding.token_table import TokenTable
from coordeval.engines.control_request import EXTRA_ARG, Handshake, read_control
from coordeval.errors import CoordevalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm.config import VllmConfig
    from vllm.sampling_params import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate

    from coordeval.decoding.constraint import ConstraintState
    from coordeval.decoding.control import SequenceControl
    from coordeval.engines.control_request import ControlRequest

logger = init_logger("vllm.coordeval")  # under vLLM's own logger, whose level and stream hold


class _Row:
    """One controlled request: the tokens that vLLM has for it, and how many were followed.

    `written` is vLLM's own list, which grows as the request is decoded.
    """

    __slots__ = ("control", "end_id", "followed", "masker", "written")

    def __init__(
        self,
        written: list[int],
        *,
        end_id: int,
        control: SequenceControl | None = None,
        masker: LogitMasker | None = None,
    ) -> None:
        self.written = written
        self.end_id = end_id
        self.control = control
        self.masker = masker
        self.followed = 0

    def follow(self) -> None:
        """Push what was written since the last step; after a preemption nothing comes twice."""
        control, written = self.control, self.written
        if control is None:
            return
        for token_id in written[self.followed :]:
            if token_id < 0:
                raise RuntimeError(
                    "vLLM has not filled in the tokens written so far: decode-time control needs "
                    "--no-async-scheduling here"
                )
            control.push(token_id)
        self.followed = len(written)

    @property
    def forced(self) -> bool:
        """True where only `end_id` may come next."""
        return self.control is None or self.control.must_end


class CoordevalProcessor(LogitsProcessor):  # type: ignore[misc]
    """Constraint and loop guard for whole batches, each request with its own settings.

    Equal settings are compiled once. Settings that cannot be compiled for this checkpoint's
    tokenizer end the request at once: the client, who compiles them too, says why.
    """

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse arguments that cannot be read, before the request reaches the engine."""
        raw = (sampling_params.extra_args or {}).get(EXTRA_ARG)
        if raw is not None:
            read_control(raw)

    def __init__(
        self,
        vllm_config: VllmConfig,
        device: torch.device,
        is_pin_memory: bool,  # noqa: ARG002 - vLLM's signature
    ) -> None:
        self._model_config = vllm_config.model_config
        self._device = device
        self._tokenizer: Any = None
        self._plans: dict[ControlRequest, tuple[ControlPlan, LogitMasker | None] | None] = {}
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        """Greedy decoding is controlled, too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch as requests leave, enter and move, in vLLM's order: that one."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, _, written in batch_update.added:
            row = self._new_row(params, written)
            if row is None:
                self._rows.pop(index, None)
            else:
                self._rows[index] = row
        for source, target, direction in batch_update.moved:
            moving, staying = self._rows.pop(source, None), self._rows.pop(target, None)
            if moving is not None:
                self._rows[target] = moving
            if staying is not None and direction == MoveDirectionality.SWAP:
                self._rows[source] = staying

    def _new_row(self, params: SamplingParams, written: list[int]) -> _Row | None:
        raw = (params.extra_args or {}).get(EXTRA_ARG)
        if raw is None:
            return None
        request = read_control(raw)
        if isinstance(request, Handshake):
            return _Row(written, end_id=request.token_id)
        compiled = self._compiled(request)
        end_id = request.end_ids[0]
        if compiled is None:
            return _Row(written, end_id=end_id)
        plan, masker = compiled
        return _Row(written, end_id=end_id, control=plan.start(), masker=masker)

    def _compiled(self, request: ControlRequest) -> tuple[ControlPlan, LogitMasker | None] | None:
        if request not in self._plans:
            try:
                plan = ControlPlan(
                    request.constraint, request.guard, request.dialect, self._table(request)
                )
                masker = None
                if plan.constraint is not None:
                    masker = LogitMasker(plan.constraint, self._device)
                self._plans[request] = plan, masker
            except CoordevalError as error:
                logger.error("coordeval cannot control a request: %s", error)  # noqa: TRY400
                self._plans[request] = None
        return self._plans[request]

    def _table(self, request: ControlRequest) -> TokenTable:
        config = self._model_config
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(
                config.tokenizer,
                revision=config.tokenizer_revision,
                trust_remote_code=config.trust_remote_code,
            )
        return TokenTable.from_tokenizer(
            self._tokenizer, end_ids=request.end_ids, vocab_size=config.get_vocab_size()
        )

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (B, V) with -inf where a request may not go; rows without control as they came."""
        if not self._rows:
            return logits
        groups: dict[int, list[int]] = {}
        forced: list[int] = []
        for index, row in self._rows.items():
            row.follow()
            if row.forced:
                forced.append(index)
            elif row.masker is not None:
                groups.setdefault(id(row.masker), []).append(index)
        for indices in groups.values():
            logits = self._masked(logits, indices)
        for index in forced:
            self._force(logits, index)
        return logits

    def _masked(self, logits_BV: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
        """Mask the rows that share a masker; a row that nothing is left of is given up."""
        masker = self._rows[indices[0]].masker
        assert masker is not None
        states: list[Any] = [None] * logits_BV.shape[0]
        for index in indices:
            states[index] = self._state(index)
        try:
            masked_BV = masker(logits_BV, states, inplace=True)
        except (RuntimeError, ValueError, LookupError):  # one request must not cost the others
            masked_BV = logits_BV.clone()
            for index in indices:
                masked_BV[index] = self._masked_row(masker, logits_BV[index : index + 1], index)
        dead = (masked_BV[indices].amax(dim=-1) == -torch.inf).tolist()
        for index, is_dead in zip(indices, dead, strict=True):
            if is_dead:
                self._give_up(index, "the constraint allows no token here")
                self._force(masked_BV, index)
        return masked_BV

    def _masked_row(self, masker: LogitMasker, logits_1V: torch.Tensor, index: int) -> torch.Tensor:
        try:
            return masker(logits_1V, [self._state(index)])[0]
        except (RuntimeError, ValueError, LookupError) as error:
            self._give_up(index, f"the constraint failed: {error}")
            return torch.full_like(logits_1V[0], -torch.inf)

    def _state(self, index: int) -> ConstraintState | None:
        control = self._rows[index].control
        assert control is not None
        return control.state

    def _give_up(self, index: int, message: str) -> None:
        control = self._rows[index].control
        assert control is not None
        logger.error("coordeval gives a request up: %s", message)
        control.fail(message)

    def _force(self, logits_BV: torch.Tensor, index: int) -> None:
        logits_BV[index] = -torch.inf
        logits_BV[index, self._rows[index].end_id] = 0.0


__all__ = ["CoordevalProcessor"]
