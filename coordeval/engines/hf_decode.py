# ruff: noqa: N806 - tensors carry shape suffixes
"""One batch through `generate`: the model in, rows of token ids and raw log-probabilities out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import GenerationConfig, LogitsProcessorList

from coordeval.engines.hf_cache import growing_cache
from coordeval.engines.hf_choose import TokenChooser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.hf_control import BatchControl
    from coordeval.engines.hf_inputs import Batch
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.hf_telemetry import SlotRecorder


class DecodedRow(NamedTuple):
    """One row: generated ids (padding behind the end still there), log-probabilities, trouble."""

    token_ids: list[int]
    logprobs: list[float]
    broken_at: int | None


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode, neutral generation settings, full float32; all is put back after.

    `generate` fills in whatever the checkpoint's own generation_config sets (a repetition penalty,
    say), which would change results without standing in the run.
    """
    was_training, stored = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    cudnn = torch.backends.cudnn
    try:
        # By default cudnn rounds float32 convolutions (the patch embedding) to TF32.
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:
        model.generation_config = stored
        model.train(was_training)


def decode_batch(
    model: Any,
    batch: Batch,
    reader: Reader,
    settings: DecodeSettings,
    *,
    seeds: Sequence[int],
    sample_indices: Sequence[int] | None = None,
    control: BatchControl | None = None,
    recorder: SlotRecorder | None = None,
) -> list[DecodedRow]:
    """Decode one batch, freely or under control; one row per sample, in order.

    `seeds` and `sample_indices` (by default all 0) hold one number per row. `control` and
    `recorder` are of this batch, and are asked afterwards for what came of it.
    """
    inputs = batch.model_inputs(model.device, model.dtype)
    chooser = TokenChooser(
        settings,
        seeds=seeds,
        attention_mask_BS=inputs["attention_mask"],
        end_id=reader.end_id,
        sample_indices=sample_indices,
        control=control,
        recorder=recorder,
    )
    generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=sorted(reader.end_ids),
        pad_token_id=reader.pad_id,
    )
    with evaluating(model), torch.inference_mode():
        ids_BS = model.generate(
            **inputs,
            generation_config=generation_config,
            past_key_values=growing_cache(),
            logits_processor=LogitsProcessorList([chooser]),
        )
    prompt_length = inputs["input_ids"].shape[1]
    rows = ids_BS[:, prompt_length:].cpu().tolist()
    return [
        DecodedRow(row, logprobs[: len(row)], broken_at)
        for row, logprobs, broken_at in zip(
            rows, chooser.logprobs(), chooser.broken_at(), strict=True
        )
    ]


__all__ = ["DecodedRow", "decode_batch", "evaluating"]
