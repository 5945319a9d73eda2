"""The processor files of a tiny checkpoint, as the published Qwen3-VL checkpoints have them.

The files are written rather than saved from a `Qwen3VLProcessor`, which cannot be built without
torchvision (its video processor needs it). They name the stock classes, so `AutoProcessor` loads
them where torchvision is installed, and `Qwen2VLImageProcessorPil` everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.training.tiny.tokenizer import IMAGE_PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from coordeval.data.prompts import Prompt

# Turns, image and video placeholders as in Qwen3-VL's own template; tools are left out.
CHAT_TEMPLATE = """\
{%- set images = namespace(count=0) %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type in ['image', 'image_url'] or 'image' in part %}
                {%- set images.count = images.count + 1 %}
                {%- if add_vision_id %}
                    {{- 'Picture ' ~ images.count ~ ': ' }}
                {%- endif %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif part.type == 'video' or 'video' in part %}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyVision:
    """How images are cut: patches of `patch_px`, `merge` x `merge` of them per visual token.

    Images are resized to between `min_pixels` and `max_pixels`: at the defaults a 64 x 64 image
    is 16 visual tokens and a photo at most 36 (very long and narrow images a few more).
    Channels of 0..1 become (value - `mean`) / `std`.
    """

    patch_px: int = 8
    merge: int = 2
    min_pixels: int = 64 * 64
    max_pixels: int = 96 * 96
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def image_config(self) -> dict[str, Any]:
        """Content of preprocessor_config.json."""
        return {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen3VLProcessor",
            "size": {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels},
            "patch_size": self.patch_px,
            "temporal_patch_size": 2,
            "merge_size": self.merge,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    def video_config(self) -> dict[str, Any]:
        """Content of video_preprocessor_config.json; limits count all frames together."""
        return {
            **self.image_config(),
            "video_processor_type": "Qwen3VLVideoProcessor",
            "size": {"shortest_edge": self.min_pixels * 2, "longest_edge": self.max_pixels * 4},
        }


def write_processor_files(out_dir: Path, tokenizer: Any, vision: TinyVision) -> None:
    """Write tokenizer, chat template and both preprocessor configs into an existing folder."""
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(out_dir)
    video = vision.video_config()
    del video["image_processor_type"]
    for name, config in (
        ("preprocessor_config.json", vision.image_config()),
        ("video_preprocessor_config.json", video),
    ):
        (out_dir / name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    path = out_dir / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["processor_class"] = "Qwen3VLProcessor"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def image_processor(vision: TinyVision) -> Any:
    """The image processor that does not need torchvision, with this vision's settings."""
    from transformers import Qwen2VLImageProcessorPil

    config = vision.image_config()
    del config["image_processor_type"], config["processor_class"]
    return Qwen2VLImageProcessorPil(**config)


def prompt_ids(
    tokenizer: Any, prompt: Prompt, image_tokens: int, *, chat_template: str = CHAT_TEMPLATE
) -> list[int]:
    """Token ids of a prompt up to where the answer starts, for an image of that many tokens."""
    from coordeval.data.prompts import build_messages

    messages: Sequence[dict[str, Any]] = build_messages(prompt)
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=chat_template,
        tokenize=False,
        add_generation_prompt=True,
        **prompt.chat_template_kwargs,
    )
    expanded = text.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * image_tokens)
    return list(tokenizer(expanded, add_special_tokens=False)["input_ids"])


__all__ = [
    "CHAT_TEMPLATE",
    "TinyVision",
    "image_processor",
    "prompt_ids",
    "write_processor_files",
]
