"""What vLLM is started with: defaults of the environment and of the engine, and the user's own.

Imports neither torch nor vLLM, so that a wrong option is refused before seconds of imports.
"""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from coordeval.engines.checkpoint import text_setting
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, MutableMapping

PROCESSOR_PATH = "coordeval.engines.vllm_processor:CoordevalProcessor"
CPU_MAX_MODEL_LEN = 8192
CPU_MAX_SEQUENCES = 16
GPU_MAX_SEQUENCES = 128
FIT_TO_MEMORY = -1  # vLLM then takes the longest sequences that its cache has room for
TOP_LOGPROBS = 20
_SMALLEST_CACHE, _LARGEST_CACHE = 64 << 20, 2 << 30

# Set only where the user has not: stdout is for results, and nothing is reported to anyone.
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}
# On CUDA newer versions run models in another way, which takes logits processors of another kind.
_CONTROL_ENVIRONMENT = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
_CPU_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # no second process to start, feed and copy through
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",  # else the first log-probabilities take 11 s to compile
}
# What the engine itself decides: given as --engine-arg, these would contradict the run's settings.
_OWN = {
    "data_parallel_size": "use --data-parallel",
    "dtype": "use --dtype",
    "enable_lora": "use --adapter",
    "generation_config": "decode settings come from the command line alone",
    "gpu_memory_utilization": "use --gpu-memory-utilization",
    "hf_token": "set HF_TOKEN in the environment: arguments are written to run.json",
    "logits_processors": "use --constrain and --loop-guard",
    "logprobs_mode": "log-probabilities are always raw",
    "max_logprobs": "use --telemetry",
    "max_model_len": "use --max-model-len",
    "mm_processor_kwargs": "use --pixels",
    "model": "it is the checkpoint that is rolled out",
    "skip_tokenizer_init": "the tokenizer is the checkpoint's",
    "tensor_parallel_size": "use --tensor-parallel",
    "tokenizer": "the tokenizer is the checkpoint's",
    "trust_remote_code": "use --trust-remote-code",
}
_PICKLE_FORMATS = ("pt", "npcache")
# What decides how a run goes, not what comes out of it: another value may finish the same run.
_NEUTRAL = frozenset(
    {
        "async_scheduling",
        "block_size",
        "disable_log_stats",
        "distributed_executor_backend",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "mm_processor_cache_gb",
        "swap_space",
    }
)


def set_environment(
    *, on_cpu: bool, controlled: bool, environ: MutableMapping[str, str] = os.environ
) -> None:
    """Set what vLLM reads from the environment, before its import; the user's values stay."""
    chosen = dict(_ENVIRONMENT)
    if on_cpu:
        chosen |= _CPU_ENVIRONMENT
    if controlled:
        chosen |= _CONTROL_ENVIRONMENT
    for name, value in chosen.items():
        environ.setdefault(name, value)


def read_engine_args(given: Mapping[str, str]) -> dict[str, Any]:
    """Values of `--engine-arg k=v`: JSON where they are JSON (numbers, true, {...}), else text.

    Dashes in names count as underscores. Raises ConfigError for what the engine itself decides.
    """
    args: dict[str, Any] = {}
    for raw_name, text in given.items():
        name = raw_name.strip().lstrip("-").replace("-", "_")
        if name in _OWN:
            raise ConfigError(f"--engine-arg {raw_name}: {_OWN[name]}")
        args[name] = _read_value(text)
        if name == "load_format" and args[name] in _PICKLE_FORMATS:
            raise ConfigError(f"--engine-arg {raw_name}={text}: pickles are not read")
    return args


def _read_value(text: str) -> Any:
    word = {"true": "true", "false": "false", "none": "null"}.get(text.strip().lower(), text)
    try:
        return json.loads(word)
    except ValueError:
        return text


def check_names(args: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse arguments that this vLLM does not have, with the nearest that it has."""
    for name in args:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--engine-arg {name}: this vLLM has no such argument{hint}")


def deciding_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """The user's arguments that may change what is written (quantization, ...), sorted by name."""
    return {name: args[name] for name in sorted(args) if name not in _NEUTRAL}


def cpu_cache_bytes(config: Mapping[str, Any], max_model_len: int, sequences: int) -> int:
    """Bytes of keys and values in float32 that hold all sequences, within sensible bounds.

    Never less than one whole sequence needs. `config` is the checkpoint's config.json.
    """
    heads = text_setting(config, "num_attention_heads") or 16
    hidden = text_setting(config, "hidden_size") or 2048
    head_dim = text_setting(config, "head_dim") or hidden // heads
    kv_heads = text_setting(config, "num_key_value_heads") or heads
    num_layers = text_setting(config, "num_hidden_layers") or 32
    per_token = 2 * num_layers * kv_heads * head_dim * 4
    whole = per_token * (max_model_len + 256)  # blocks are handed out whole
    return max(whole, min(max(whole * sequences, _SMALLEST_CACHE), _LARGEST_CACHE))


__all__ = [
    "CPU_MAX_MODEL_LEN",
    "CPU_MAX_SEQUENCES",
    "FIT_TO_MEMORY",
    "GPU_MAX_SEQUENCES",
    "PROCESSOR_PATH",
    "TOP_LOGPROBS",
    "check_names",
    "cpu_cache_bytes",
    "deciding_args",
    "read_engine_args",
    "set_environment",
]
