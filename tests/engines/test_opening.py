"""Options of one engine are refused by the others, not left out in silence."""

from pathlib import Path

import pytest

from coordeval.engines.opening import open_source
from coordeval.engines.options import RolloutOptions
from coordeval.errors import ConfigError


@pytest.mark.parametrize("engine", ["hf", "replay"])
@pytest.mark.parametrize(
    ("option", "value", "flag"),
    [
        ("tensor_parallel", 2, "--tensor-parallel"),
        ("gpu_memory_utilization", 0.5, "--gpu-memory-utilization"),
        ("max_model_len", 512, "--max-model-len"),
        ("engine_args", {"seed": "1"}, "--engine-arg"),
    ],
)
def test_options_of_vllm_need_vllm(engine, option, value, flag):
    """The message names the option and the engine that takes it."""
    options = RolloutOptions(
        checkpoint="x", data=Path("d"), runs_dir=Path("r"), engine=engine, **{option: value}
    )
    with pytest.raises(ConfigError, match=f"{flag} has no effect .*--engine vllm"):
        open_source(options)


@pytest.mark.parametrize("engine", ["hf", "vllm", "replay"])
@pytest.mark.parametrize("option", ["server_url", "server_model"])
def test_options_of_a_server_need_a_server(engine, option):
    """An address without --engine server would decode somewhere else than meant."""
    options = RolloutOptions(
        checkpoint="x", data=Path("d"), runs_dir=Path("r"), engine=engine, **{option: "http://h"}
    )
    with pytest.raises(ConfigError, match=r"--server-(url|model) has no effect .*--engine server"):
        open_source(options)
