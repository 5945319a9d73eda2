"""Implementations that a checkpoint's configuration names: none is fetched from the hub and run.

transformers takes `"_attn_implementation": "owner/kernel"` for compiled code of the hub, which it
downloads and loads where the package `kernels` is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordeval.errors import CheckpointError
from coordeval.quoting import shown

_KEYS = ("attn_implementation", "experts_implementation")


def refuse_hub_kernels(config: Mapping[str, Any], source: str) -> None:
    """CheckpointError where a configuration, or a part of it, names code of the hub."""
    for key, value in _named(config):
        if "/" in value:
            raise CheckpointError(
                f"{source}: config.json: {key} {shown(value, 60)} is code of the hub, which is not "
                "loaded: delete the key (--attn chooses among the library's own)"
            )


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parts = [part for part in config.values() if isinstance(part, Mapping)]  # text_config, ...
    for part in (config, *parts):
        for key, value in part.items():
            if key.strip("_").startswith(_KEYS):
                values = value.values() if isinstance(value, Mapping) else [value]
                yield from ((key, text) for text in values if isinstance(text, str))


__all__ = ["refuse_hub_kernels"]
