"""From image and answer text to a training batch, with the prompt that rollouts use.

Shapes: B examples, L tokens of the longest example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from coordeval.training.tiny.processor import image_processor, prompt_ids
from coordeval.training.tiny.tokenizer import END_OF_TURN, IMAGE_PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

    from coordeval.data.prompts import Prompt
    from coordeval.training.tiny.processor import TinyVision


class Example(NamedTuple):
    """One image and what the assistant is to write about it.

    `ends` is False for an answer that stops in the middle (a loop cut at the token budget): no
    end token is then taught.
    """

    image: Image
    answer: str
    ends: bool = True


class Batch(NamedTuple):
    """Model inputs, and which positions are taught: `is_answer_BL` marks the answer's tokens."""

    inputs: dict[str, Tensor]
    is_answer_BL: Tensor


class ExampleEncoder:
    """Turns examples into batches: prompt, image placeholders, answer, end token, right padding.

    Rows are padded on the right, where a causal model needs no attention mask. `max_tokens` cuts
    answers (prompt not counted), as a token budget cuts a rollout.
    """

    def __init__(
        self, tokenizer: Any, prompt: Prompt, vision: TinyVision, *, max_tokens: int = 512
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.vision = vision
        self.max_tokens = max_tokens
        self._images = image_processor(vision)
        self._end_id = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        self._image_id = tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER)
        self._prompts: dict[int, list[int]] = {}

    def _prompt_ids(self, image_tokens: int) -> list[int]:
        if image_tokens not in self._prompts:
            self._prompts[image_tokens] = prompt_ids(self.tokenizer, self.prompt, image_tokens)
        return self._prompts[image_tokens]

    def _answer_ids(self, example: Example) -> list[int]:
        ids = list(self.tokenizer(example.answer, add_special_tokens=False)["input_ids"])
        if example.ends:
            ids.append(self._end_id)
        return ids[: self.max_tokens]

    def encode(self, examples: Sequence[Example]) -> Batch:
        """One batch; image sizes and answer lengths may differ. ValueError for no examples."""
        if not examples:
            raise ValueError("a batch needs at least one example")
        images = self._images(images=[example.image for example in examples], return_tensors="pt")
        tokens_per_image = images["image_grid_thw"].prod(dim=1) // self.vision.merge**2
        prompts = [self._prompt_ids(int(count)) for count in tokens_per_image]
        answers = [self._answer_ids(example) for example in examples]
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        ids_BL = torch.full((len(examples), longest), self.tokenizer.pad_token_id)
        is_answer_BL = torch.zeros(ids_BL.shape, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            end = len(prompt) + len(answer)
            ids_BL[row, :end] = torch.tensor(prompt + answer)
            is_answer_BL[row, len(prompt) : end] = True
        inputs = {
            "input_ids": ids_BL,
            "mm_token_type_ids": (ids_BL == self._image_id).long(),
            "pixel_values": images["pixel_values"],
            "image_grid_thw": images["image_grid_thw"],
        }
        return Batch(inputs, is_answer_BL)


__all__ = ["Batch", "Example", "ExampleEncoder"]
