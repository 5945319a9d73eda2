"""Targets behind their prompts: examples that the ordinary collator puts into a batch.

Shapes: p tokens of a prompt, T of a target with its end token, l = p + T.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.data.collator import EncodedExample
from coordeval.training.data.labels import IGNORE, IGNORE_LABEL
from coordeval.training.data.packing import pack_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.training.stage2.prompts import BatchPrompt
    from coordeval.training.stage2.targets import BuiltTarget


def target_example(prompt: BatchPrompt, target: BuiltTarget) -> EncodedExample:
    """One example: the batch's own prompt and pixels, and a target in the place of the answer."""
    length = len(prompt.input_ids)
    ids = prompt.input_ids.cpu()
    return EncodedExample(
        sample_id=prompt.sample_id,
        input_ids=torch.cat([ids, torch.tensor(target.token_ids, dtype=torch.long)]),
        labels=torch.cat(
            [torch.full_like(ids, IGNORE_LABEL), torch.from_numpy(target.labels_T).long()]
        ),
        token_kinds=torch.cat(
            [
                torch.full((length,), IGNORE, dtype=torch.uint8),
                torch.from_numpy(target.kinds_T).to(torch.uint8),
            ]
        ),
        boxes=torch.from_numpy(target.boxes_M4).long() + length,
        pixel_values=prompt.pixel_values,
        grid_thw=prompt.grid_thw,
        token_weights=torch.cat(
            [torch.zeros(length), torch.from_numpy(target.weights_T).to(torch.float32)]
        ),
        unlikely=torch.from_numpy(target.unlikely_U2).long() + torch.tensor([length, 0]),
    )


def rows_of(
    examples: Sequence[EncodedExample], *, packed: bool, capacity: int
) -> Sequence[EncodedExample | list[EncodedExample]]:
    """One row for each example; packed anew into rows of at most `capacity` where rows are packed.

    An answer that was written has another length than the one in the data, so a batch may have
    more or fewer rows than before. A longer example has a row for itself.
    """
    if not packed:
        return examples
    lengths = [len(example.input_ids) for example in examples]
    packing = pack_lengths(lengths, max(capacity, *lengths))
    return [[examples[index] for index in sorted(row)] for row in packing]


__all__ = ["rows_of", "target_example"]
