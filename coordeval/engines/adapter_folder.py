"""Adapter folders: what is asked of one before anything of it is loaded. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.engines.checkpoint import ADAPTER_CONFIG, require_safetensors
from coordeval.errors import CheckpointError
from coordeval.jsonl import load_document
from coordeval.quoting import shown

if TYPE_CHECKING:
    from pathlib import Path

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_TYPES = frozenset(
    {
        "ADALORA",
        "BOFT",
        "BONE",
        "C3A",
        "DELORA",
        "FOURIERFT",
        "GRALORA",
        "HIRA",
        "HRA",
        "IA3",
        "LN_TUNING",
        "LOHA",
        "LOKR",
        "LORA",
        "MISS",
        "OFT",
        "RANDLORA",
        "ROAD",
        "SHIRA",
        "TRAINABLE_TOKENS",
        "VBLORA",
        "VERA",
        "WAVEFT",
    }
)
"""PEFT's kinds that change layers and are read from their own folder alone: XLORA names other
folders, whose pickles PEFT opens, SHADOW a whole model; prompt learning has no part in `generate`.
"""


def check_adapter(folder: Path) -> None:
    """Refuse what is not an adapter folder with safetensors, before anything is loaded."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder}: not an adapter folder (it has no {ADAPTER_CONFIG})")
    require_safetensors(folder, str(folder))
    if not (folder / ADAPTER_WEIGHTS).is_file():  # else the library would take what else is there
        raise CheckpointError(f"{folder}: has no {ADAPTER_WEIGHTS}")
    try:
        raw = load_document(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    kind = raw.get("peft_type") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in ADAPTER_TYPES:
        raise CheckpointError(
            f"{folder}: adapters of type {shown(str(kind), 40)} are not supported; use LoRA"
        )


__all__ = ["ADAPTER_TYPES", "ADAPTER_WEIGHTS", "check_adapter"]
