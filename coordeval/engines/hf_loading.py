"""A checkpoint folder to tokenizer, image processor and model, on a device and in a dtype.

Image processing always goes through the PIL processor, also where torchvision is installed: the
two differ slightly when they resize, and a run must not depend on what else is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError

from coordeval.coords import CoordVocabulary
from coordeval.engines.adapter_folder import check_adapter
from coordeval.engines.checkpoint import text_setting
from coordeval.engines.hub_kernels import refuse_hub_kernels
from coordeval.errors import CheckpointError, ConfigError, MissingExtraError
from coordeval.jsonl import load_document
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coordeval.engines.checkpoint import Checkpoint

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe", "qwen2_5_vl", "qwen2_vl")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")
COPY_HINT = "copy such files from the checkpoint that the training began with"
"""A Trainer that is handed no processor saves the weights alone."""
JSON_PARTS = (
    "added_tokens.json",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
"""What must be a JSON object where it is there; libraries fail on other things in many ways."""
# What the libraries raise on nonsense in the files of a checkpoint.
_LIBRARY_FAULTS = (
    ArithmeticError,
    AssertionError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    StrictDataclassError,
)
ATTENTION = ("auto", "sdpa", "eager", "flash_attention_2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What reads prompts and images for a model, and knows where its answers end.

    `vocab_size` is the width of the logits that the configuration promises, None where it does not.
    """

    tokenizer: Any
    image_processor: Any
    image_token_id: int
    end_ids: frozenset[int]
    pad_id: int
    vocab_size: int | None = None

    @property
    def end_id(self) -> int:
        """One end token to close a row with."""
        preferred = self.tokenizer.eos_token_id
        return preferred if preferred in self.end_ids else min(self.end_ids)

    def coord_vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens; None where the tokenizer lacks them."""
        try:
            return CoordVocabulary.from_tokenizer(self.tokenizer)
        except CheckpointError:
            return None


def load_reader(checkpoint: Checkpoint, *, trust_remote_code: bool = False) -> Reader:
    """Load tokenizer and image processor of a checkpoint folder; no weights are read.

    Raises CheckpointError for another family of models, or what cannot be loaded.
    """
    from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

    config = checkpoint.config()
    check_model_type(config, checkpoint.source)
    if not trust_remote_code:
        refuse_hub_kernels(config, checkpoint.source)
        _require_tokenizer(checkpoint)
    for name in JSON_PARTS:
        _optional_json(checkpoint.path / name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.path, trust_remote_code=trust_remote_code, local_files_only=True
        )
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(
            checkpoint.path, local_files_only=True
        )
    except (ImportError, *_LIBRARY_FAULTS) as error:
        raise CheckpointError(
            f"{checkpoint.source}: tokenizer or image processor cannot be loaded"
            f"{_lacking_processor(checkpoint.path)}: {_line(error)}"
        ) from None
    if not tokenizer.chat_template:
        tokenizer.chat_template = _stored_chat_template(checkpoint.path)
    return make_reader(
        tokenizer=tokenizer,
        image_processor=image_processor,
        config=config,
        generation=_optional_json(checkpoint.path / "generation_config.json"),
        source=checkpoint.source,
    )


def _require_tokenizer(checkpoint: Checkpoint) -> None:
    """Refuse a folder without a vocabulary: the library would make up an empty tokenizer."""
    if not any((checkpoint.path / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"{checkpoint.source}: has no tokenizer (none of {', '.join(TOKENIZER_FILES)}); "
            f"is it a whole checkpoint? {COPY_HINT}"
        )


def _lacking_processor(folder: Path) -> str:
    """What to do where a training has saved its model without the image processor."""
    names = ("preprocessor_config.json", "processor_config.json")
    if any((folder / name).is_file() for name in names):
        return ""
    return f" (it has no preprocessor_config.json; {COPY_HINT})"


def make_reader(
    *,
    tokenizer: Any,
    image_processor: Any,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    source: str,
) -> Reader:
    """Put a reader together from loaded parts; `config` and `generation` as in their JSON files.

    Answers end at the end tokens of the generation settings and at the tokenizer's. Raises
    CheckpointError where there is no end token or no image token.
    """
    end_ids = {*_ids(generation.get("eos_token_id")), *_ids(tokenizer.eos_token_id)}
    if not end_ids:
        raise CheckpointError(f"{source}: neither tokenizer nor generation_config has an end token")
    image_token_id = config.get("image_token_id")
    if not isinstance(image_token_id, int):
        raise CheckpointError(f"{source}: config.json has no image_token_id")
    pad_id = tokenizer.pad_token_id
    return Reader(
        tokenizer=tokenizer,
        image_processor=image_processor,
        image_token_id=int(image_token_id),
        end_ids=frozenset(end_ids),
        pad_id=min(end_ids) if pad_id is None else int(pad_id),
        vocab_size=text_setting(config, "vocab_size"),
    )


def check_model_type(config: Mapping[str, Any], source: str) -> None:
    """Refuse other families of models: their images and prompts are built differently."""
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        raise CheckpointError(
            f"{source}: model type {model_type!r} is not supported (known: {known})"
        )


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    try:
        return [int(item) for item in value] if isinstance(value, list | tuple) else [int(value)]
    except (TypeError, ValueError, OverflowError):
        raise CheckpointError(f"eos_token_id {shown(str(value), 60)} is no token id") from None


def _stored_chat_template(folder: Path) -> str | None:
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    template = _optional_json(folder / "chat_template.json").get("chat_template")
    return template if isinstance(template, str) else None


def _optional_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        raw = load_document(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: must hold a JSON object")
    return raw


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; ConfigError for what is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}: use auto, cpu or cuda") from None
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"device {name!r} is not supported: use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: this machine offers no CUDA device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}: there are only {torch.cuda.device_count()}")
    return device


def resolve_dtype(name: str, device: torch.device) -> tuple[str, torch.dtype]:
    """Name and dtype; `auto` is bf16 on CUDA and fp32 on the CPU, where bf16 is slow and rough."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    try:
        return name, DTYPES[name]
    except KeyError:
        raise ConfigError(f"unknown dtype {name!r}: use auto, bf16 or fp32") from None


def load_model(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str = "auto",
    adapter: Path | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Load the weights, and an adapter on top where given; the model comes in evaluation mode.

    Only safetensors are read. Raises CheckpointError, and ConfigError for an unknown or missing
    attention implementation.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    if attention not in ATTENTION:
        raise ConfigError(f"unknown attention {attention!r}: use one of {', '.join(ATTENTION)}")
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint.path,
            dtype=dtype,
            attn_implementation=None if attention == "auto" else attention,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
        )
    except ImportError as error:
        raise ConfigError(f"attention {attention!r} cannot be used: {_line(error)}") from None
    except (RuntimeError, SafetensorError, *_LIBRARY_FAULTS) as error:
        raise CheckpointError(f"{checkpoint.source}: cannot be loaded: {_line(error)}") from None
    if adapter is not None:
        model = _with_adapter(model, adapter)
    return model.to(device).eval()


def _with_adapter(model: Any, folder: Path) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtraError("an adapter", "peft") from None
    from safetensors import SafetensorError

    check_adapter(folder)
    try:
        wrapped = PeftModel.from_pretrained(model, folder, is_trainable=False)
    except (RuntimeError, SafetensorError, *_LIBRARY_FAULTS) as error:
        raise CheckpointError(f"{folder}: the adapter cannot be loaded: {_line(error)}") from None
    # The layers are changed in place: the base model now runs with the adapter.
    return wrapped.get_base_model()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


__all__ = [
    "MODEL_TYPES",
    "Reader",
    "check_model_type",
    "load_model",
    "load_reader",
    "make_reader",
    "resolve_device",
    "resolve_dtype",
]
