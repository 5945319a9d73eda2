"""The prompts and pixels that stand in a batch, sample by sample, and whether rollouts read them.

Shapes: B rows, L columns, P image patches of the whole batch, p tokens of a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from coordeval.errors import ConfigError
from coordeval.training.data.labels import IGNORE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from coordeval.records import Rollout


class BatchPrompt(NamedTuple):
    """One sample of a teacher-forced batch up to its answer: ids (p), patches, grid t, h, w."""

    sample_id: str
    input_ids: Tensor
    pixel_values: Tensor
    grid_thw: Tensor


def prompts_of(batch: Mapping[str, Any]) -> list[BatchPrompt]:
    """The prompts of a collator's batch in the order of its `sample_ids`, packed rows taken apart.

    A prompt ends where the first label stands. A batch of fillers has none. Raises ValueError for
    a sample without any label, whose prompt has no end, and where samples and images are not as
    many.
    """
    names: list[str] = batch["sample_ids"]
    if not names:
        return []
    grids_N3 = batch["image_grid_thw"]
    if len(grids_N3) != len(names):
        raise ValueError(f"{len(names)} samples with {len(grids_N3)} images")
    patches = batch["pixel_values"].split(grids_N3.prod(dim=1).tolist())
    ids, labels = batch["input_ids"].flatten(), batch["labels"].flatten()
    segments = batch["segment_ids"].flatten()
    out = []
    for number, name in enumerate(names):
        # A sample is one stretch of one row, so that of the flattened batch as well.
        places = torch.nonzero(segments == number)[:, 0]
        taught = labels[places] != IGNORE_LABEL
        if not bool(taught.any()):
            raise ValueError(f"sample {name!r} has no label: its prompt has no end")
        length = int(taught.int().argmax())
        out.append(
            BatchPrompt(name, ids[places[:length]].clone(), patches[number], grids_N3[number])
        )
    return out


def check_prompt(
    prompt: BatchPrompt,
    rollouts: Sequence[Rollout],
    rendered_ids: Sequence[int],
    image_token_id: int,
) -> None:
    """Refuse a rollout of another prompt than the one that is trained on.

    `rendered_ids` are those that the rollouts were asked with, with one image token. Raises
    ConfigError where ids differ, or where a rollout read another number of tokens.
    """
    learned = prompt.input_ids.tolist()
    images = learned.count(image_token_id)
    first = learned.index(image_token_id) if images else 0
    collapsed = [*learned[:first], image_token_id, *learned[first + images :]]
    if collapsed != list(rendered_ids):
        raise ConfigError(
            f"sample {prompt.sample_id!r}: the rollout's prompt is not the one that is trained on "
            f"({len(rendered_ids)} tokens, {len(collapsed)} in training, the image counted as "
            "one): data and rollouts must be read with the same prompt and tokenizer"
        )
    for rollout in rollouts:
        read = rollout.prompt_tokens
        if not rollout.failed and read is not None and read != len(learned):
            raise ConfigError(
                f"sample {prompt.sample_id!r}: the rollout read {read} prompt tokens, and training "
                f"reads {len(learned)}: the image is cut differently there; check data.pixels and "
                "the engine's image processor"
            )


__all__ = ["BatchPrompt", "check_prompt", "prompts_of"]
