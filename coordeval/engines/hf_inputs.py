# ruff: noqa: N815 - tensors carry shape suffixes
"""Prompt and image to model inputs, without a processor class, with or without torchvision.

Shape legend: B rows, S prompt length, P image patches of all rows, D values per patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from coordeval.data.prompts import build_messages
from coordeval.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt

IMAGE_TOKEN_TYPE = 1
UNLIMITED_PIXELS = 1 << 40


class EncodedSample(NamedTuple):
    """One prompt with its image: ids (image tokens expanded), patches (p, D), grid (3,) t, h, w."""

    prompt_ids: list[int]
    pixel_values: torch.Tensor
    grid_thw: torch.Tensor


# What templates and tokenizers raise, which come with the checkpoint.
_TEMPLATE_FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def render_prompt(tokenizer: Any, prompt: Prompt, image_token_id: int) -> list[int]:
    """Ids of the rendered prompt up to where the answer starts, with one image token in it.

    Raises CheckpointError without a chat template and where the tokenizer fails, ConfigError where
    the template fails on the prompt or the rendered prompt does not hold exactly one image token.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            "the checkpoint's tokenizer has no chat template; copy chat_template.jinja (or "
            "chat_template.json) from the checkpoint that the training began with"
        )
    try:
        text = tokenizer.apply_chat_template(
            build_messages(prompt),
            tokenize=False,
            add_generation_prompt=True,
            **prompt.chat_template_kwargs,
        )
    except (TemplateError, *_TEMPLATE_FAULTS) as error:
        raise ConfigError(f"the chat template fails on the prompt: {_line(error)}") from None
    try:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    except _TEMPLATE_FAULTS as error:  # odd values in tokenizer_config.json come to light here
        raise CheckpointError(f"the tokenizer fails on the prompt: {_line(error)}") from None
    count = ids.count(image_token_id)
    if count != 1:
        raise ConfigError(
            f"the rendered prompt holds {count} image tokens instead of 1; "
            "an image token must not stand in the prompt's own text"
        )
    return ids


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def apply_pixel_limits(image_processor: Any, pixels: PixelLimits | None) -> None:
    """Set the image processor's limits; None keeps the checkpoint's own.

    Without a lower limit an image still gets at least one cell of the patch grid.
    """
    if pixels is None:
        return
    cell = (image_processor.patch_size * image_processor.merge_size) ** 2
    low = max(cell, pixels.min_pixels or 0)
    high = max(low, pixels.max_pixels or UNLIMITED_PIXELS)
    image_processor.size = type(image_processor.size)(shortest_edge=low, longest_edge=high)


def encode_sample(
    prompt_ids: Sequence[int], image: Image.Image, image_processor: Any, image_token_id: int
) -> EncodedSample:
    """Cut the image into patches and expand the one image token to what they merge into.

    Raises ValueError where the image cannot be fitted to the patch grid (aspect ratio above 200).
    """
    features = image_processor(images=[image], return_tensors="pt")
    grid_thw = features["image_grid_thw"][0]
    num_image_tokens = int(grid_thw.prod()) // image_processor.merge_size**2
    position = list(prompt_ids).index(image_token_id)
    expanded = [
        *prompt_ids[:position],
        *[image_token_id] * num_image_tokens,
        *prompt_ids[position + 1 :],
    ]
    return EncodedSample(expanded, features["pixel_values"], grid_thw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Left-padded model inputs."""

    input_ids_BS: torch.Tensor
    attention_mask_BS: torch.Tensor
    mm_token_type_ids_BS: torch.Tensor
    pixel_values_PD: torch.Tensor
    image_grid_thw_B3: torch.Tensor

    def model_inputs(self, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Keyword arguments for `generate` and `forward`, on the model's device.

        `mm_token_type_ids` is always among them: without it `generate` silently gives image
        tokens the positions of text.
        """
        return {
            "input_ids": self.input_ids_BS.to(device),
            "attention_mask": self.attention_mask_BS.to(device),
            "mm_token_type_ids": self.mm_token_type_ids_BS.to(device),
            "pixel_values": self.pixel_values_PD.to(device=device, dtype=dtype),
            "image_grid_thw": self.image_grid_thw_B3.to(device),
        }


def collate(samples: Sequence[EncodedSample], *, pad_id: int, image_token_id: int) -> Batch:
    """Left-pad prompts to the longest; every row has its image; ValueError for no samples."""
    if not samples:
        raise ValueError("a batch needs at least one sample")
    longest = max(len(sample.prompt_ids) for sample in samples)
    ids, mask = [], []
    for sample in samples:
        padding = longest - len(sample.prompt_ids)
        ids.append([pad_id] * padding + sample.prompt_ids)
        mask.append([0] * padding + [1] * len(sample.prompt_ids))
    input_ids = torch.tensor(ids, dtype=torch.long)
    attention_mask = torch.tensor(mask, dtype=torch.long)
    is_image = (input_ids == image_token_id) & (attention_mask == 1)
    return Batch(
        input_ids_BS=input_ids,
        attention_mask_BS=attention_mask,
        mm_token_type_ids_BS=is_image.to(torch.int32) * IMAGE_TOKEN_TYPE,
        pixel_values_PD=torch.cat([sample.pixel_values for sample in samples]),
        image_grid_thw_B3=torch.stack([sample.grid_thw for sample in samples]),
    )


__all__ = [
    "Batch",
    "EncodedSample",
    "apply_pixel_limits",
    "collate",
    "encode_sample",
    "render_prompt",
]
