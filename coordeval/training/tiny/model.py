"""Tiny Qwen3-VL models: real architecture, a few MB, built and saved in seconds.

Shapes: K coordinate bins, H hidden width, P position embeddings of the image grid.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from coordeval.coords import NUM_BINS, CoordVocabulary
from coordeval.data.prompts import default_prompt
from coordeval.parsers.dialects import dialect_named
from coordeval.training.tiny.processor import TinyVision, write_processor_files
from coordeval.training.tiny.tokenizer import (
    END_OF_TURN,
    IMAGE_PLACEHOLDER,
    PADDING,
    VIDEO_PLACEHOLDER,
    VISION_END,
    VISION_START,
    build_tiny_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyConfig:
    """Sizes of a tiny model (1.4 M parameters at the defaults, about 3 MB in bfloat16).

    `coord_features`: start the coordinate rows as Fourier features of their bin, so that near
    bins look alike; without them a tiny model would need long to learn the number line.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    head_dim: int = 32
    feed_forward: int = 384
    tied: bool = True
    rope_theta: float = 10_000.0
    init_std: float = 0.05
    vision_depth: int = 2
    vision_hidden: int = 64
    vision_heads: int = 4
    vision_feed_forward: int = 192
    grid: int = 8
    coord_features: bool = True
    vision: TinyVision = field(default_factory=TinyVision)


def tiny_tokenizer(class_names: Sequence[str] = (), *, coordinates: bool = True) -> Any:
    """The tiny tokenizer with the words of the default prompt and of these class names."""
    prompt = default_prompt(dialect=dialect_named("coordjson"))
    names = [text for name in class_names for text in (name, f'"{name}"', f" {name}")]
    return build_tiny_tokenizer([prompt.user, *names], coordinates=coordinates)


def build_model(config: TinyConfig, tokenizer: Any, *, seed: int) -> Any:
    """A float32 `Qwen3VLForConditionalGeneration` with seeded random weights.

    The global torch random state is left as it was. Greedy by default, ends at `<|im_end|>`.
    """
    from transformers import GenerationConfig, Qwen3VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(_model_config(config, tokenizer)).float()
        if config.coord_features:
            _set_coord_rows(model, tokenizer)
        _set_grid_positions(model, config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TURN),
        pad_token_id=tokenizer.convert_tokens_to_ids(PADDING),
        do_sample=False,
    )
    return model


def _model_config(config: TinyConfig, tokenizer: Any) -> Any:
    from transformers import Qwen3VLConfig

    token_id = tokenizer.convert_tokens_to_ids
    half = config.head_dim // 2
    section = [half - 2 * (half // 3), half // 3, half // 3]
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.hidden,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": 4096,
        "initializer_range": config.init_std,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": config.rope_theta,
            "mrope_section": section,
            "mrope_interleaved": True,
        },
        "eos_token_id": token_id(END_OF_TURN),
        "pad_token_id": token_id(PADDING),
        "tie_word_embeddings": config.tied,
    }
    vision = {
        "depth": config.vision_depth,
        "hidden_size": config.vision_hidden,
        "intermediate_size": config.vision_feed_forward,
        "num_heads": config.vision_heads,
        "patch_size": config.vision.patch_px,
        "spatial_merge_size": config.vision.merge,
        "temporal_patch_size": 2,
        "out_hidden_size": config.hidden,
        "num_position_embeddings": config.grid**2,
        "deepstack_visual_indexes": [0],
        "initializer_range": config.init_std,
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token_id(IMAGE_PLACEHOLDER),
        video_token_id=token_id(VIDEO_PLACEHOLDER),
        vision_start_token_id=token_id(VISION_START),
        vision_end_token_id=token_id(VISION_END),
        tie_word_embeddings=config.tied,
    )


def _rotation(size: int) -> Tensor:
    """A random orthogonal matrix, so that features are spread over all channels."""
    orthogonal: Tensor = torch.linalg.qr(torch.randn(size, size)).Q
    return orthogonal


@torch.no_grad()
def _set_coord_rows(model: Any, tokenizer: Any) -> None:
    table_VH = model.get_input_embeddings().weight
    hidden = table_VH.shape[1]
    frequencies = torch.logspace(math.log10(0.5), math.log10(40.0), hidden // 2)
    phases = torch.arange(NUM_BINS)[:, None] / NUM_BINS * math.tau * frequencies
    rows_KH = torch.cat([phases.cos(), phases.sin()], dim=1) / math.sqrt(hidden // 2)
    ids = torch.tensor(CoordVocabulary.from_tokenizer(tokenizer).token_ids)
    table_VH[ids] = rows_KH @ _rotation(hidden)


@torch.no_grad()
def _set_grid_positions(model: Any, config: TinyConfig) -> None:
    table_PH = model.model.visual.pos_embed.weight
    quarter = table_PH.shape[1] // 4
    slowest, fastest = math.tau / config.grid / 4, math.pi
    frequencies = torch.logspace(math.log10(slowest), math.log10(fastest), quarter)
    ys, xs = torch.meshgrid(torch.arange(config.grid), torch.arange(config.grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (ys, xs)]
    features = torch.cat([part for a in angles for part in (a.cos(), a.sin())], dim=1)
    table_PH[:, : 4 * quarter] = 0.5 * features @ _rotation(4 * quarter)


def save_checkpoint(model: Any, tokenizer: Any, vision: TinyVision, out_dir: Path) -> Path:
    """Write an ordinary checkpoint folder with bfloat16 safetensors, and return it.

    Holds config, generation_config, model.safetensors, tokenizer, chat template and both
    preprocessor configs. The model itself is not changed.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.save_pretrained(out_dir)
    # safetensors writes files that only their owner may read; a fixture is for everyone.
    (out_dir / "model.safetensors").chmod(0o644)
    write_processor_files(out_dir, tokenizer, vision)
    return out_dir


def write_random_checkpoint(
    out_dir: Path,
    *,
    seed: int = 0,
    class_names: Sequence[str] = ("red circle", "blue square"),
    config: TinyConfig | None = None,
    coordinates: bool = True,
) -> Path:
    """Write an untrained checkpoint in about a second, for tests of engines and loaders.

    Larger weights than a model to be trained has, so that greedy decoding writes varied nonsense
    that depends on the image.
    """
    config = config or TinyConfig(init_std=0.2, coord_features=False)
    tokenizer = tiny_tokenizer(class_names, coordinates=coordinates)
    model = build_model(config, tokenizer, seed=seed)
    return save_checkpoint(model, tokenizer, config.vision, out_dir)


__all__ = [
    "TinyConfig",
    "build_model",
    "save_checkpoint",
    "tiny_tokenizer",
    "write_random_checkpoint",
]
