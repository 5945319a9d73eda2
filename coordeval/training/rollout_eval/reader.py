"""The reader of an evaluation from whatever the training has: a processor, its parts, a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import Reader, check_model_type, load_reader, make_reader
from coordeval.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def find_reader(
    processor: Any,
    *,
    tokenizer: Any,
    image_processor: Any,
    model: Any,
    fallback: Any,
) -> Reader:
    """Tokenizer and image processor for a model.

    `processor` is a `Reader`, a processor with both parts, or a checkpoint folder or hub id;
    `fallback` is the trainer's own processor or tokenizer. What is missing comes from the folder
    that the model was loaded from. Raises ConfigError where a part is nowhere to be found, and
    CheckpointError for another family of models.
    """
    if isinstance(processor, Reader):
        return processor
    if isinstance(processor, str | Path):
        return load_reader(resolve_checkpoint(str(processor)))
    config = model.config.to_dict()
    source = str(getattr(model.config, "_name_or_path", "") or "the model in training")
    check_model_type(config, source)
    offered = [item for item in (processor, fallback) if item is not None]
    tokenizer = tokenizer or _first(offered, _tokenizer_of)
    image_processor = image_processor or _first(offered, _image_processor_of)
    if tokenizer is None or image_processor is None:
        loaded = _from_folder(source, "tokenizer" if tokenizer is None else "image processor")
        tokenizer = tokenizer or loaded.tokenizer
        image_processor = image_processor or loaded.image_processor
    generation = getattr(model, "generation_config", None)
    return make_reader(
        tokenizer=_with_template(tokenizer, offered),
        image_processor=as_pil(image_processor),
        config=config,
        generation={} if generation is None else generation.to_dict(),
        source=source,
    )


def _first(offered: list[Any], part: Callable[[Any], Any]) -> Any:
    return next((found for item in offered if (found := part(item)) is not None), None)


def _tokenizer_of(item: Any) -> Any:
    if hasattr(item, "tokenizer"):
        return item.tokenizer
    return item if hasattr(item, "convert_tokens_to_ids") else None


def _image_processor_of(item: Any) -> Any:
    if hasattr(item, "image_processor"):
        return item.image_processor
    return item if hasattr(item, "merge_size") else None


def _with_template(tokenizer: Any, offered: list[Any]) -> Any:
    """The tokenizer with the processor's chat template where it has none; a copy then."""
    if getattr(tokenizer, "chat_template", None):
        return tokenizer
    template = _first(offered, lambda item: getattr(item, "chat_template", None))
    if template is None:
        return tokenizer
    import copy

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def _from_folder(source: str, what: str) -> Reader:
    if not Path(source).is_dir():
        raise ConfigError(
            f"rollout_eval: no {what} is at hand; give processor=..., or tokenizer=... and "
            "image_processor=..., or processor='checkpoint folder'"
        )
    try:
        return load_reader(resolve_checkpoint(source))
    except CheckpointError as error:
        raise ConfigError(f"rollout_eval: no {what} is at hand: {error}") from None


def as_pil(image_processor: Any) -> Any:
    """The same settings in the processor that rollouts always use, with or without torchvision."""
    from transformers import Qwen2VLImageProcessorPil

    if isinstance(image_processor, Qwen2VLImageProcessorPil):
        return image_processor
    settings = dict(image_processor.to_dict())
    for name in ("image_processor_type", "processor_class", "device", "data_format"):
        settings.pop(name, None)
    return Qwen2VLImageProcessorPil.from_dict(settings)


__all__ = ["as_pil", "find_reader"]
