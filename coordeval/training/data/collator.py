"""Encoded examples to one training batch: right padding, labels, kinds and box slots.

Shapes: B rows, L columns, P image patches of all rows, D values per patch, M boxes, U unlikely
tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from coordeval.engines.hf_inputs import IMAGE_TOKEN_TYPE
from coordeval.errors import DataError
from coordeval.training.data.labels import IGNORE, IGNORE_LABEL
from coordeval.training.data.packing import row_positions
from coordeval.training.data.skips import Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from coordeval.engines.hf_loading import Reader

MODEL_KEYS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "mm_token_type_ids",
    "pixel_values",
    "image_grid_thw",
)
NO_SAMPLE = -1


class EncodedExample(NamedTuple):
    """One sample as tokens: prompt with image tokens, answer, end token (l of them).

    `labels` are ids on the answer and its end token, -100 before; `boxes` (m, 4) are columns.
    `sample_id` is None for the filler, which belongs to no sample and teaches nothing.
    `token_weights` (l, float32) weigh the cross-entropy of text; None: 1 each. `unlikely` (u, 2)
    are pairs of a column and a token id that is to be less probable there: the column is that of
    the label, as with boxes, and may be one that is not taught; None: no such token.
    """

    sample_id: str | None
    input_ids: Tensor
    labels: Tensor
    token_kinds: Tensor
    boxes: Tensor
    pixel_values: Tensor
    grid_thw: Tensor
    token_weights: Tensor | None = None
    unlikely: Tensor | None = None


Item = EncodedExample | Skipped
Row = list[EncodedExample]


class TrainCollator:
    """Puts the items of a dataset into a batch; the same items give the same batch.

    An item is an example, a skipped sample, or a list of these: one packed row. With `packing`
    batches carry `position_ids` (4, B, L) instead of an attention mask; see
    `coordeval.training.data.packing`. `filler` stands in where nothing of a batch could be read.
    """

    def __init__(
        self, reader: Reader, *, packing: bool = False, filler: EncodedExample | None = None
    ) -> None:
        self._pad_id = reader.pad_id
        self._image_token_id = reader.image_token_id
        self._merge = int(reader.image_processor.merge_size)
        self._packing = packing
        self._filler = filler

    def __call__(self, items: Sequence[Item | Sequence[Item]]) -> dict[str, Any]:
        """The batch, right-padded.

        `input_ids`, `attention_mask`, `mm_token_type_ids`, `labels`, `token_kinds` (uint8) and
        `segment_ids` (B, L; which entry of `sample_ids` a position belongs to, -1 padding),
        `pixel_values` (P, D) and `image_grid_thw` in reading order, `box_slots` (M, 4; flat
        positions of labels), `sample_ids`, and `skipped`: what could not be read. Where any
        example has them also `token_weights` (B, L; float32, 1 in examples without, 0 in the
        padding) and `unlikely` (U, 2; flat position of the label, token id). Raises ValueError for
        no items, for weights not as long as their example and for unlikely tokens outside of it or
        in its first column, DataError where nothing could be read and there is no filler.
        """
        if not items:
            raise ValueError("a batch needs at least one item")
        rows, skipped = _sorted_out(items)
        if not rows:
            if self._filler is None:
                raise DataError(f"nothing of a batch can be read: {skipped[0].reason}")
            rows = [[self._filler]]
        return self._batch(rows) | {"skipped": skipped}

    def _batch(self, rows: Sequence[Row]) -> dict[str, Any]:
        examples = [example for row in rows for example in row]
        ids_BL = _padded([_joined(row, "input_ids") for row in rows], self._pad_id)
        segment_ids = _segments(rows)
        segments_BL = _padded(segment_ids, NO_SAMPLE)
        taken_BL = _padded([torch.ones_like(ids) for ids in segment_ids], 0)
        is_image_BL = (ids_BL == self._image_token_id) & (taken_BL == 1)
        batch: dict[str, Any] = {
            "input_ids": ids_BL,
            "mm_token_type_ids": is_image_BL.to(torch.int32) * IMAGE_TOKEN_TYPE,
            "labels": _padded([_joined(row, "labels") for row in rows], IGNORE_LABEL),
            "token_kinds": _padded([_joined(row, "token_kinds") for row in rows], IGNORE),
            "segment_ids": segments_BL,
            "box_slots": _box_slots(rows, ids_BL.shape[1]),
            "pixel_values": torch.cat([example.pixel_values for example in examples]),
            "image_grid_thw": torch.stack([example.grid_thw for example in examples]),
            "sample_ids": [e.sample_id for e in examples if e.sample_id is not None],
        }
        batch |= _stage2_parts(rows, ids_BL.shape[1])
        if self._packing:
            batch["position_ids"] = row_positions(
                [[(e.input_ids, e.grid_thw) for e in row] for row in rows],
                length=ids_BL.shape[1],
                image_token_id=self._image_token_id,
                merge=self._merge,
            )
        else:
            batch["attention_mask"] = taken_BL
        return batch


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What of a batch the model is called with.

    `use_cache` is off: with a cache the model would not look for the borders of packed samples.
    """
    return {key: batch[key] for key in MODEL_KEYS if key in batch} | {"use_cache": False}


def _sorted_out(items: Sequence[Item | Sequence[Item]]) -> tuple[list[Row], list[Skipped]]:
    """Rows of what could be read, without empty ones, and what could not."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for item in items:
        parts = [item] if isinstance(item, EncodedExample | Skipped) else item
        skipped += [part for part in parts if isinstance(part, Skipped)]
        row = [part for part in parts if isinstance(part, EncodedExample)]
        if row:
            rows.append(row)
    return rows, skipped


def _joined(row: Row, field: str) -> Tensor:
    return torch.cat([getattr(example, field) for example in row])


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([*rows], batch_first=True, padding_value=value)


def _segments(rows: Sequence[Row]) -> list[Tensor]:
    out, number = [], 0
    for row in rows:
        parts = []
        for example in row:
            own = NO_SAMPLE if example.sample_id is None else number
            parts.append(torch.full_like(example.input_ids, own))
            number += 1
        out.append(torch.cat(parts))
    return out


def _stage2_parts(rows: Sequence[Row], length: int) -> dict[str, Tensor]:
    """`token_weights` and `unlikely`, each only where an example has it."""
    examples = [example for row in rows for example in row]
    out = {}
    if any(example.token_weights is not None for example in examples):
        out["token_weights"] = _padded([torch.cat([_weights(e) for e in row]) for row in rows], 0)
    if any(example.unlikely is not None for example in examples):
        out["unlikely"] = _unlikely(rows, length)
    return out


def _weights(example: EncodedExample) -> Tensor:
    given = example.token_weights
    if given is None:
        return torch.ones(len(example.input_ids))
    if given.shape != example.input_ids.shape:
        raise ValueError(f"{len(given)} token weights for {len(example.input_ids)} tokens")
    return given.float()


def _unlikely(rows: Sequence[Row], length: int) -> Tensor:
    parts = [torch.empty((0, 2), dtype=torch.long)]
    for number, row in enumerate(rows):
        start = number * length
        for example in row:
            if example.unlikely is not None and example.unlikely.numel():
                columns = example.unlikely[:, 0]
                # The state before the first column belongs to another sample, or to none.
                if not 0 < int(columns.min()) <= int(columns.max()) < len(example.input_ids):
                    raise ValueError(f"an unlikely token outside 1..{len(example.input_ids) - 1}")
                parts.append(example.unlikely.long() + torch.tensor([start, 0]))
            start += len(example.input_ids)
    return torch.cat(parts)


def _box_slots(rows: Sequence[Row], length: int) -> Tensor:
    parts = [torch.empty((0, 4), dtype=torch.long)]
    for number, row in enumerate(rows):
        start = number * length
        for example in row:
            parts.append(example.boxes + start)
            start += len(example.input_ids)
    return torch.cat(parts)


__all__ = ["MODEL_KEYS", "NO_SAMPLE", "EncodedExample", "Item", "TrainCollator", "model_inputs"]
