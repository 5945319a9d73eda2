"""Teacher forcing: prompts and answers through a model once, diagnosed where answers stand.

Shapes: B texts, S tokens of the longest (prompt and answer, padded on the left), N answer tokens of
all texts of a batch, H hidden width, V vocabulary, K bins.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from coordeval.engines.hf_decode import evaluating
from coordeval.engines.hf_inputs import EncodedSample, collate
from coordeval.training.diagnostics.values import (
    CHUNK_NUMBERS,
    NO_BIN,
    Diagnosis,
    Targets,
    diagnose,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from coordeval.engines.hf_loading import Reader
    from coordeval.training.probe.texts import ProbeText


class ForcedText(NamedTuple):
    """One text on one image: the prompt with its image, and what is to follow it."""

    prompt: EncodedSample
    text: ProbeText

    @property
    def num_tokens(self) -> int:
        """Length of the sequence: prompt, image tokens and answer."""
        return len(self.prompt.prompt_ids) + len(self.text.token_ids)


class TextDiagnosis(NamedTuple):
    """What the model said to one text, on the CPU.

    `written`: all its tokens, against what is written. `true`: the slots with a true bin (in slot
    order), against that bin.
    """

    written: Diagnosis
    true: Diagnosis

    @property
    def finite(self) -> bool:
        """False where the model's logits are not numbers, or a label's logit is minus infinity."""
        return all(
            bool(torch.isfinite(values).all())
            for diagnosis in self
            for values in (diagnosis.coord_mass_N, *diagnosis.slots)
        )


class TeacherForcing:
    """Runs texts through a model; `coord_ids[k]` is the token id of bin k."""

    def __init__(
        self,
        model: Any,
        reader: Reader,
        coord_ids: Sequence[int],
        *,
        chunk_numbers: int = CHUNK_NUMBERS,
    ) -> None:
        self._model, self._reader = model, reader
        self._coord_ids_K = torch.tensor(coord_ids, device=model.device)
        self._chunk_numbers = chunk_numbers

    def diagnose(self, batch: Sequence[ForcedText]) -> list[TextDiagnosis]:
        """One forward pass over a batch of texts; results in its order, none for no texts.

        The head is applied to answer positions alone, a few at a time. What comes out does not
        depend on how texts are batched, up to rounding.
        """
        if not batch:
            return []
        with evaluating(self._model), torch.inference_mode():
            hidden_NH = self._hidden(batch)
            return self._read(hidden_NH, [item.text for item in batch])

    def _hidden(self, batch: Sequence[ForcedText]) -> Tensor:
        """The states that predict the answers' tokens, text after text."""
        model, reader = self._model, self._reader
        image_id = reader.image_token_id
        answers = [item.text.token_ids for item in batch]
        # An answer may hold the image token as text: only the prompt's are places of an image.
        encoded = [
            EncodedSample(
                [
                    *item.prompt.prompt_ids,
                    *(reader.end_id if token_id == image_id else token_id for token_id in answer),
                ],
                item.prompt.pixel_values,
                item.prompt.grid_thw,
            )
            for item, answer in zip(batch, answers, strict=True)
        ]
        inputs = collate(encoded, pad_id=reader.pad_id, image_token_id=image_id).model_inputs(
            model.device, model.dtype
        )
        true_ids_BS = inputs["input_ids"].clone()
        length = true_ids_BS.shape[1]
        for row, answer in enumerate(answers):
            true_ids_BS[row, length - len(answer) :] = torch.tensor(answer)
        with _embedding(model, true_ids_BS):
            hidden_BSH = model.model(**inputs, use_cache=False).last_hidden_state
        return torch.cat(
            [
                hidden_BSH[row, length - 1 - len(answer) : length - 1]
                for row, answer in enumerate(answers)
            ]
        )

    def _read(self, hidden_NH: Tensor, texts: Sequence[ProbeText]) -> list[TextDiagnosis]:
        """Head and diagnosis, a chunk of positions at a time."""
        head = self._model.get_output_embeddings()
        device = hidden_NH.device
        written = Targets(
            labels_N=_on(device, [np.array(text.token_ids) for text in texts]),
            kinds_N=_on(device, [text.kinds for text in texts]),
            bins_N=_on(device, [text.bins for text in texts]),
        )
        true_bins_N = _on(device, [_true_bins(text) for text in texts])
        step = max(1, self._chunk_numbers // head.weight.shape[0])
        written_parts, true_parts = [], []
        for start in range(0, len(hidden_NH), step):
            rows = slice(start, start + step)
            logits_nV = head(hidden_NH[rows])
            written_parts.append(diagnose(logits_nV, written.rows(rows), self._coord_ids_K))
            known_n = true_bins_N[rows] != NO_BIN
            targets = self._true_targets(written.rows(rows).rows(known_n), true_bins_N[rows])
            true_parts.append(diagnose(logits_nV[known_n], targets, self._coord_ids_K))
        lengths = [len(text.token_ids) for text in texts]
        numbers_true = [int((text.true_bins != NO_BIN).sum()) for text in texts]
        return [
            TextDiagnosis(*pair)
            for pair in zip(
                joined(written_parts).cpu().split(lengths),
                joined(true_parts).cpu().split(numbers_true),
                strict=True,
            )
        ]

    def _true_targets(self, written: Targets, true_bins_n: Tensor) -> Targets:
        bins_L = true_bins_n[true_bins_n != NO_BIN]
        return Targets(self._coord_ids_K[bins_L], written.kinds_N, bins_L)


def _on(device: torch.device, parts: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)


def _true_bins(text: ProbeText) -> np.ndarray[Any, Any]:
    """True bins per token instead of per slot."""
    out = np.full(len(text.token_ids), NO_BIN, dtype=np.int64)
    out[text.slot_tokens] = text.true_bins
    return out


@contextmanager
def _embedding(model: Any, true_ids_BS: Tensor) -> Iterator[None]:
    """Embed these ids, whatever ids the model is called with.

    The model looks for images in the ids that it is given, and embeds what really stands there.
    """

    def replaced(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        ids = arguments[0]
        return (true_ids_BS, *arguments[1:]) if ids.shape == true_ids_BS.shape else arguments

    handle = model.get_input_embeddings().register_forward_pre_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


__all__ = ["ForcedText", "TeacherForcing", "TextDiagnosis"]
