"""The Hugging Face engine: a Qwen-VL checkpoint decoding in this process."""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from coordeval import __version__
from coordeval.data.images import load_sample_image
from coordeval.engines.base import error_rollout, new_rollout
from coordeval.engines.hf_control import BatchControl
from coordeval.engines.hf_decode import decode_batch
from coordeval.engines.hf_inputs import apply_pixel_limits, collate, encode_sample, render_prompt
from coordeval.engines.hf_telemetry import SlotRecorder
from coordeval.engines.hf_text import decode_verbatim, read_answer, read_controlled
from coordeval.errors import ConfigError, DataError
from coordeval.parsers.dialects import DEFAULT_DIALECT, dialect_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coordeval.coords import CoordVocabulary
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.decoding.control import ControlPlan
    from coordeval.decoding.masking import LogitMasker
    from coordeval.decoding.token_table import TokenTable
    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_control import RowControl
    from coordeval.engines.hf_decode import DecodedRow
    from coordeval.engines.hf_inputs import EncodedSample
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.hf_text import Answer
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout, SlotReading


class HfEngine:
    """Decodes batches of requests with one model.

    `load` gives the model when it is first needed (a lambda around one that is already there, in
    training). `dtype` and `attention` are names to store. `dialect` is what decode-time control and
    telemetry read the answer in. Out of memory halves the batch, for good; a batch of one that does
    not fit is an error line. `notify` hears of such events. Raises CheckpointError and ConfigError
    where this tokenizer or dialect cannot have the control that `decode` asks for.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        load: Callable[[], Any],
        prompt: Prompt,
        decode: DecodeSettings,
        dtype: str,
        dialect: Dialect | None = None,
        pixels: PixelLimits | None = None,
        batch_size: int = 8,
        device: str = "",
        attention: str = "auto",
        notify: Callable[[str], None] | None = None,
    ) -> None:
        # The image processor may be shared with training: limits are set on a copy.
        reader = replace(reader, image_processor=copy.deepcopy(reader.image_processor))
        self._reader = reader
        self._load = load
        self._model: Any = None
        self._decode = decode
        self._batch_size = batch_size
        self._notify = notify or (lambda _: None)
        self._identity = {"name": "hf", "dtype": dtype}
        self._environment = {"device": device, "attention": attention, "batch_size": batch_size}
        apply_pixel_limits(reader.image_processor, pixels)
        self._prompt_ids = render_prompt(reader.tokenizer, prompt, reader.image_token_id)
        self._dialect = dialect or dialect_named(DEFAULT_DIALECT)
        self._table: TokenTable | None = None
        self._plan: ControlPlan | None = None
        self._masker: LogitMasker | None = None
        self._prepare_control(reader.vocab_size)

    def _prepare_control(self, vocab_size: int | None) -> None:
        """Compile what the settings ask for; nothing where they ask for nothing."""
        decode = self._decode
        controlled = decode.constraint.mode != "none" or decode.guard.mode != "off"
        if not (controlled or decode.telemetry):
            return
        if decode.telemetry and "token" not in self._dialect.coordinates:
            raise ConfigError(
                f"--telemetry reads coordinate tokens, and the dialect {self._dialect.name} writes "
                "integers: leave it out, or use a dialect of tokens"
            )
        from coordeval.decoding.control import ControlPlan
        from coordeval.decoding.token_table import TokenTable

        reader = self._reader
        self._table = TokenTable.from_tokenizer(
            reader.tokenizer, end_ids=reader.end_ids, vocab_size=vocab_size
        )
        if controlled:
            self._plan = ControlPlan(decode.constraint, decode.guard, self._dialect, self._table)
        self._masker = None

    def _load_model(self) -> None:
        self._model = self._load()
        # What is in memory may be wider or narrower than its configuration file said.
        width = int(self._model.config.get_text_config().vocab_size)
        if self._table is not None and self._table.vocab_size != width:
            self._prepare_control(width)

    def describe(self) -> dict[str, Any]:
        """Say what this engine is, as `Engine.describe`."""
        import PIL
        import transformers

        return {
            "identity": dict(self._identity),
            "environment": dict(self._environment),
            "versions": {
                "coordeval": __version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "pillow": PIL.__version__,
            },
        }

    def vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens; None where the tokenizer lacks them."""
        return self._reader.coord_vocabulary()

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield finished rollouts batch by batch, in the order of the requests."""
        start = 0
        while start < len(requests):
            batch = requests[start : start + self._batch_size]
            try:
                finished = self._answer_batch(batch)
            except (torch.OutOfMemoryError, MemoryError):
                finished = None
            if finished is None:  # outside the handler, whose traceback holds the batch's tensors
                finished = self._shrink(len(batch), batch[0])
            start += len(finished)
            if finished:
                yield finished

    def _shrink(self, tried: int, first: Request) -> list[Rollout]:
        """Halve the batch size after running out of memory; at one, give the request up."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried > 1:
            self._batch_size = max(1, tried // 2)
            self._notify(f"out of memory with a batch of {tried}: going on with {self._batch_size}")
            return []
        return [error_rollout(first, "out of memory, even alone in its batch")]

    def _answer_batch(self, requests: Sequence[Request]) -> list[Rollout]:
        if self._model is None:
            self._load_model()
        started = time.perf_counter()
        encoded: list[tuple[Request, EncodedSample]] = []
        failed: dict[tuple[str, int], Rollout] = {}
        for request in requests:
            try:
                encoded.append((request, self._encode(request)))
            except (DataError, ValueError) as error:
                failed[request.key] = error_rollout(request, str(error))
        answered = self._decode_fenced(encoded)
        seconds = (time.perf_counter() - started) / len(requests)
        for rollout in answered:
            rollout.seconds = round(seconds, 6)
        by_key = failed | {(rollout.id, rollout.sample_index): rollout for rollout in answered}
        return [by_key[request.key] for request in requests]

    def _encode(self, request: Request) -> EncodedSample:
        image = load_sample_image(request.sample)
        reader = self._reader
        return encode_sample(self._prompt_ids, image, reader.image_processor, reader.image_token_id)

    def _decode_fenced(self, encoded: Sequence[tuple[Request, EncodedSample]]) -> list[Rollout]:
        """Decode; where a batch fails, each row alone, so that one bad row costs only itself."""
        if not encoded:
            return []
        try:
            return self._decode_rows(encoded)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError) as error:
            if len(encoded) == 1:
                message = f"decoding failed: {type(error).__name__}: {error}"
                return [error_rollout(encoded[0][0], message)]
            self._notify(f"a batch of {len(encoded)} failed ({type(error).__name__}): one by one")
            return [rollout for pair in encoded for rollout in self._decode_fenced([pair])]

    def _decode_rows(self, encoded: Sequence[tuple[Request, EncodedSample]]) -> list[Rollout]:
        reader = self._reader
        batch = collate(
            [sample for _, sample in encoded],
            pad_id=reader.pad_id,
            image_token_id=reader.image_token_id,
        )
        control = self._start_control(len(encoded))
        recorder = None
        if self._decode.telemetry and self._table is not None:
            recorder = SlotRecorder(self._table.coords, self._model.device)
        rows = decode_batch(
            self._model,
            batch,
            reader,
            self._decode,
            seeds=[request.seed for request, _ in encoded],
            sample_indices=[request.sample_index for request, _ in encoded],
            control=control,
            recorder=recorder,
        )
        controls: list[RowControl | None] = [None] * len(rows)
        if control is not None:
            controls = [*control.results([row.token_ids for row in rows])]
        answers = [
            self._read_answer(row, controlled)
            for row, controlled in zip(rows, controls, strict=True)
        ]
        rollouts = [
            self._to_rollout(request, sample, row, answer, controlled)
            for (request, sample), row, answer, controlled in zip(
                encoded, rows, answers, controls, strict=True
            )
        ]
        if recorder is not None:
            self._add_slots(rollouts, recorder)
        return rollouts

    def _start_control(self, num_rows: int) -> BatchControl | None:
        plan = self._plan
        if plan is None:
            return None
        if plan.constraint is not None and self._masker is None:
            from coordeval.decoding.masking import LogitMasker

            self._masker = LogitMasker(plan.constraint, self._model.device)
        return BatchControl(plan, self._masker, num_rows)

    def _read_answer(self, row: DecodedRow, control: RowControl | None) -> Answer:
        end_ids, tokenizer = self._reader.end_ids, self._reader.tokenizer
        if control is None:
            return read_answer(row.token_ids, end_ids, tokenizer)
        return read_controlled(row.token_ids, control, end_ids, tokenizer)

    def _to_rollout(
        self,
        request: Request,
        sample: EncodedSample,
        row: DecodedRow,
        answer: Answer,
        control: RowControl | None,
    ) -> Rollout:
        stopped = control is not None and control.stopped
        # Behind the last token that counts only padding can be broken.
        last = answer.written - stopped
        if row.broken_at is not None and row.broken_at <= last:
            return error_rollout(
                request, f"the model's logits are not numbers at token {row.broken_at}"
            )
        guard = None
        if control is not None and control.verdict is not None:
            saved = self._decode.max_new_tokens - control.written if stopped else 0
            guard = control.verdict.to_json(saved)
        return new_rollout(
            request,
            answer.text,
            finish_reason=answer.finish_reason,
            token_ids=answer.token_ids,
            token_logprobs=row.logprobs[: len(answer.token_ids)],
            prompt_tokens=len(sample.prompt_ids),
            guard=guard,
            error=None if control is None else control.error,
        )

    def _add_slots(self, rollouts: Sequence[Rollout], recorder: SlotRecorder) -> None:
        """Give every rollout that has tokens the readings at its coordinate slots."""
        from coordeval.decoding.slots import find_slots

        assert self._table is not None
        table = self._table
        places = [find_slots(rollout.token_ids or (), table, self._dialect) for rollout in rollouts]
        texts: dict[int, str] = {}

        def text_of(token_id: int) -> str:
            if token_id not in texts:
                texts[token_id] = decode_verbatim([token_id], self._reader.tokenizer)
            return texts[token_id]

        readings: list[list[SlotReading]] = recorder.readings(places, text_of)
        for rollout, slots in zip(rollouts, readings, strict=True):
            if rollout.token_ids is not None:
                rollout.slots = slots

    def close(self) -> None:
        """Let go of the model and of CUDA's cached memory."""
        self._model = self._masker = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


__all__ = ["HfEngine"]
