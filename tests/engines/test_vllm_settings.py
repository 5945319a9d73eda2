"""What vLLM would be started with, tested without vLLM."""

from __future__ import annotations

import json

import pytest

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.control_request import ControlRequest, Handshake, read_control
from coordeval.engines.vllm_settings import (
    check_names,
    cpu_cache_bytes,
    deciding_args,
    read_engine_args,
    set_environment,
)
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import dialect_named


def test_engine_arguments_are_json_where_they_are_json():
    """Numbers, truth values, null and objects are read as such, everything else is text."""
    given = {
        "max-num-seqs": "4",
        "swap_space": "0.5",
        "enforce-eager": "True",
        "enable_prefix_caching": "false",
        "quantization": "None",
        "kv_cache_dtype": "fp8",
        "speculative_config": '{"method": "ngram"}',
        "--block-size": "32",
    }
    assert read_engine_args(given) == {
        "max_num_seqs": 4,
        "swap_space": 0.5,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "quantization": None,
        "kv_cache_dtype": "fp8",
        "speculative_config": {"method": "ngram"},
        "block_size": 32,
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dtype", "--dtype"),
        ("max-model-len", "--max-model-len"),
        ("logprobs_mode", "raw"),
        ("--tensor-parallel-size", "--tensor-parallel"),
        ("generation_config", "command line"),
        ("model", "checkpoint"),
    ],
)
def test_arguments_with_an_option_of_their_own_are_refused(name, hint):
    """One setting has one place, and the message names it."""
    with pytest.raises(ConfigError, match=hint):
        read_engine_args({name: "1"})


def test_unknown_names_are_refused_with_the_nearest():
    """A typing error is met with what was probably meant."""
    check_names({"block_size": 1}, ["block_size", "seed"])
    with pytest.raises(ConfigError, match="did you mean block_size"):
        check_names({"blocksize": 1}, ["block_size", "seed"])


def test_only_arguments_that_change_the_output_decide():
    """Memory and batch sizes may differ when a run is resumed; quantisation may not."""
    args = {"quantization": "fp8", "max_num_seqs": 4, "hf_overrides": {"a": 1}}
    assert deciding_args(args) == {"hf_overrides": {"a": 1}, "quantization": "fp8"}


def test_the_environment_of_the_user_stays():
    """Defaults fill gaps, on the CPU more of them, and never overwrite."""
    environ = {"VLLM_LOGGING_LEVEL": "DEBUG"}
    set_environment(on_cpu=False, controlled=False, environ=environ)
    assert environ["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert environ["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in environ
    assert "VLLM_USE_V2_MODEL_RUNNER" not in environ
    set_environment(on_cpu=True, controlled=True, environ=environ)
    assert environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert environ["VLLM_USE_V2_MODEL_RUNNER"] == "0"
    assert "HF_HUB_OFFLINE" not in environ


def test_the_cache_holds_a_whole_sequence_and_not_the_world():
    """Small models get room for all sequences, large ones for at least one."""
    tiny = {
        "text_config": {
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "num_hidden_layers": 4,
        }
    }
    per_token = 2 * 4 * 4 * 32 * 4
    assert cpu_cache_bytes(tiny, 4096, 16) == per_token * (4096 + 256) * 16
    assert cpu_cache_bytes(tiny, 64, 1) == 64 << 20
    large = {"num_attention_heads": 64, "hidden_size": 8192, "num_hidden_layers": 80}
    assert cpu_cache_bytes(large, 8192, 16) == 2 * 80 * 64 * 128 * 4 * (8192 + 256)


def test_control_requests_survive_the_way_to_the_engine():
    """Every field arrives, class names in any script too, and equal requests have equal texts."""
    request = ControlRequest(
        constraint=ConstraintSettings(
            mode="grammar",
            geometries=("bbox_2d", "poly"),
            class_names=('say "hi"', "back\\slash", "第九", "🦊"),
            max_objects=3,
            ordered=False,
            sorted_objects=True,
        ),
        guard=GuardSettings(mode="stop", near_iou=0.9),
        dialect=dialect_named("object-map", field_order="geometry_first"),
        end_ids=(7, 3),
    )
    text = request.to_text()
    assert "\n" not in text
    read = read_control(text)
    assert isinstance(read, ControlRequest)
    assert read.constraint == request.constraint
    assert read.guard == request.guard
    assert read.dialect == request.dialect
    assert set(read.end_ids) == {3, 7}
    assert read.to_text() == text
    assert read_control(json.loads(text)) == read


def test_a_handshake_survives_the_way_to_the_engine():
    """The token that is asked for is the one that is read."""
    assert read_control(Handshake(token_id=12).to_text()) == Handshake(token_id=12)
