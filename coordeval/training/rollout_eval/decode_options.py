"""Options of `coordeval rollout` inside a training configuration: known names, right types."""

from __future__ import annotations

import json
import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Options of `coordeval rollout` that say how is decoded, as `decode` may hold them.
DECODE_OPTIONS: dict[str, type] = {
    "classes": str,
    "constrain": str,
    "geometry": str,
    "guard_block": int,
    "guard_cycle": int,
    "guard_exact": int,
    "guard_near": int,
    "guard_near_iou": float,
    "loop_guard": str,
    "max_new_tokens": int,
    "max_objects": int,
    "max_points": int,
    "ordered": bool,
    "repetition_penalty": float,
    "sample_temperature": float,
    "samples": int,
    "seed": int,
    "separators": str,
    "sorted_objects": bool,
    "telemetry": bool,
    "temperature": float,
    "top_k": int,
    "top_p": float,
}
# And where, for an engine that is not the training itself.
ENGINE_OPTIONS: dict[str, type] = {
    "attention": str,
    "data_parallel": int,
    "device": str,
    "dtype": str,
    "engine": str,
    "engine_args": dict,
    "gpu_memory_utilization": float,
    "max_model_len": int,
    "tensor_parallel": int,
    "trust_remote_code": bool,
}
# And how a server is asked.
SERVER_OPTIONS: dict[str, type] = {
    "concurrency": int,
    "retries": int,
    "server_model": str,
    "timeout_s": float,
}


def checked_options(
    decode: Mapping[str, Any],
    known: Mapping[str, type],
    *,
    where: str,
    refused: Mapping[str, str],
) -> dict[str, Any]:
    """Options with a value, in the types of `known`; what is None is left out.

    `where` is the section that errors name; `refused` says for other options why they are. Raises
    ConfigError for these, for an unknown name (with the nearest known one) and a wrong type.
    """
    out: dict[str, Any] = {}
    for name, value in decode.items():
        if name in refused:
            raise ConfigError(f"{where}.{name}: {refused[name]}")
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: unknown option {name}; {hint}")
        if value is not None:
            out[name] = _typed(f"{where}.{name}", value, known[name])
    return out


def _typed(name: str, value: Any, wanted: type) -> Any:
    accepted = (int, float) if wanted is float else wanted
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(f"{name}: {value!r} must be {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}: {value!r} must be finite")
    if isinstance(value, dict):  # `--engine-arg` hands over text
        return {str(key): _as_text(item) for key, item in value.items()}
    return wanted(value)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


__all__ = ["DECODE_OPTIONS", "ENGINE_OPTIONS", "SERVER_OPTIONS", "checked_options"]
