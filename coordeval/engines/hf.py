"""The Hugging Face engine: a Qwen-VL checkpoint decoding freely in this process."""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from coordeval import __version__
from coordeval.coords import CoordVocabulary
from coordeval.data.images import load_upright_rgb
from coordeval.engines.base import error_rollout, new_rollout
from coordeval.engines.hf_decode import decode_batch
from coordeval.engines.hf_inputs import apply_pixel_limits, collate, encode_sample, render_prompt
from coordeval.engines.hf_text import read_answer
from coordeval.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_decode import DecodedRow
    from coordeval.engines.hf_inputs import EncodedSample
    from coordeval.engines.hf_loading import Reader
    from coordeval.records import Rollout


class HfEngine:
    """Decodes batches of requests with one model.

    `load` gives the model when it is first needed (a lambda around one that is already there, in
    training). `dtype` and `attention` are names to store. Out of memory halves the batch, for good;
    a batch of one that does not fit is an error line. `notify` hears of such events.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        load: Callable[[], Any],
        prompt: Prompt,
        decode: DecodeSettings,
        dtype: str,
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
        try:
            return CoordVocabulary.from_tokenizer(self._reader.tokenizer)
        except CheckpointError:
            return None

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
            self._model = self._load()
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
        sample = request.sample
        if request.image_path is None:
            raise DataError(f"{sample.image}: the dataset was opened without images")
        image = load_upright_rgb(request.image_path)
        if image.size != (sample.width, sample.height):
            raise DataError(
                f"{request.image_path}: the upright image is {image.width}x{image.height}, "
                f"the dataset says {sample.width}x{sample.height}"
            )
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
        rows = decode_batch(
            self._model,
            batch,
            reader,
            self._decode,
            seeds=[request.seed for request, _ in encoded],
        )
        return [
            self._to_rollout(request, sample, row)
            for (request, sample), row in zip(encoded, rows, strict=True)
        ]

    def _to_rollout(self, request: Request, sample: EncodedSample, row: DecodedRow) -> Rollout:
        answer = read_answer(row.token_ids, self._reader.end_ids, self._reader.tokenizer)
        if row.broken_at is not None and row.broken_at < len(answer.token_ids):
            return error_rollout(
                request, f"the model's logits are not numbers at token {row.broken_at}"
            )
        return new_rollout(
            request,
            answer.text,
            finish_reason=answer.finish_reason,
            token_ids=answer.token_ids,
            token_logprobs=row.logprobs[: len(answer.token_ids)],
            prompt_tokens=len(sample.prompt_ids),
        )

    def close(self) -> None:
        """Let go of the model and of CUDA's cached memory."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


__all__ = ["HfEngine"]
