"""Options to an engine's source: the one table of engines, each imported only when it is asked for.

A new engine is one source class and one line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from coordeval.engines.extras import has_extra
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from coordeval.engines.options import RolloutOptions
    from coordeval.engines.source import Source

AUTO = "auto"
SOURCES: dict[str, tuple[str, str]] = {
    "hf": ("coordeval.engines.hf_source", "HfSource"),
    "vllm": ("coordeval.engines.vllm_source", "VllmSource"),
    "server": ("coordeval.engines.server_source", "ServerSource"),
    "ray": ("coordeval.engines.ray_source", "RaySource"),
    "replay": ("coordeval.engines.replay_source", "ReplaySource"),
}


def choose_engine(name: str) -> str:
    """`auto` is vLLM where it is installed and CUDA is there, else Hugging Face."""
    if name != AUTO:
        return name
    if not has_extra("vllm"):
        return "hf"
    import torch

    return "vllm" if torch.cuda.is_available() else "hf"


def open_source(options: RolloutOptions) -> Source:
    """Find and check what the options name; ConfigError for an unknown engine."""
    name = choose_engine(options.engine)
    if name not in SOURCES:
        known = ", ".join((AUTO, *SOURCES))
        raise ConfigError(f"unknown engine {options.engine!r}: use one of {known}")
    if options.data_parallel > 1 and name in {"server", "replay", "ray"}:
        instead = ": use --replicas" if name == "ray" else ""
        raise ConfigError(f"--data-parallel has no meaning for the engine {name}{instead}")
    chosen = f"{name} (chosen by auto)" if options.engine == AUTO else name
    refuse_options_of_others(options, name, f"the engine {chosen}")
    module, class_name = SOURCES[name]
    source: Source = getattr(import_module(module), class_name)(options)
    if options.data_parallel > 1:
        from coordeval.engines.parallel import ParallelSource

        return ParallelSource(options, source)
    return source


def refuse_options_of_others(
    options: RolloutOptions, name: str, chosen: str, *, switch: str = "--engine"
) -> None:
    """ConfigError for an option that the engine would silently leave out.

    `chosen` says in words what was chosen, and `switch` what chooses another. The server's own
    source says what its options mean there, and Ray's what those of vLLM do.
    """
    of_vllm = {
        "--tensor-parallel": options.tensor_parallel != 1,
        "--gpu-memory-utilization": options.gpu_memory_utilization is not None,
        "--max-model-len": options.max_model_len is not None,
        "--engine-arg": bool(options.engine_args),
    }
    of_server = {
        "--server-url": options.server_url is not None,
        "--server-model": options.server_model is not None,
    }
    of_ray = {
        "--ray-address": options.ray_address is not None,
        "--replicas": options.replicas is not None,
        "--inner": options.inner is not None,
    }
    for other, given, refused in (
        ("vllm", of_vllm, name in {"hf", "replay"}),
        ("server", of_server, name != "server"),
        ("ray", of_ray, name != "ray"),
    ):
        for option, is_given in given.items():
            if refused and is_given:
                raise ConfigError(f"{option} has no effect with {chosen}: give {switch} {other}")


__all__ = ["AUTO", "SOURCES", "choose_engine", "open_source", "refuse_options_of_others"]
