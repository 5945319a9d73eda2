"""LoRA adapters inside vLLM write what they write on top of the model with Hugging Face."""

from __future__ import annotations

import json

import pytest
from rolling import largest_difference, roll

from coordeval.engines.base import DecodeSettings
from coordeval.engines.vllm_loading import VllmSetup
from coordeval.errors import CheckpointError

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

GREEDY = DecodeSettings(max_new_tokens=64)


@pytest.fixture(scope="module")
def adapter(benches, tmp_path_factory):
    """A LoRA adapter with weights that matter, on the language model of ckpt-300."""
    import torch
    from peft import LoraConfig, get_peft_model

    bench = benches("ckpt-300")
    config = LoraConfig(
        r=4,
        lora_alpha=16,
        target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|down_proj)",
    )
    wrapped = get_peft_model(bench._load(), config)
    generator = torch.Generator().manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    wrapped.save_pretrained(folder)
    return folder


def test_an_adapter_writes_the_same_in_both_engines(benches, scenes, adapter):
    """Same tokens with the adapter, and others than without it."""
    import torch

    from coordeval.engines.hf_loading import load_model

    bench = benches("ckpt-300")
    model = load_model(
        bench.checkpoint, device=torch.device("cpu"), dtype=torch.float32, adapter=adapter
    )
    theirs = roll(bench.hf(GREEDY, load=lambda: model), scenes[:16], GREEDY)
    engine = bench.new_vllm(GREEDY, setup=VllmSetup(dtype="fp32", on_cpu=True, adapter=adapter))
    try:
        ours = roll(engine, scenes[:16], GREEDY)
    finally:
        engine.close()
    assert largest_difference(theirs, ours) < 1e-3
    plain = roll(bench.hf(GREEDY), scenes[:16], GREEDY)
    assert any(plain[key].token_ids != ours[key].token_ids for key in ours)


def test_adapters_of_another_kind_are_refused(benches, adapter, tmp_path):
    """What vLLM cannot apply is one clear error that names the engine which can."""
    raw = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(raw | {"peft_type": "LOHA"}))
    setup = VllmSetup(dtype="fp32", on_cpu=True, adapter=tmp_path)
    with pytest.raises(CheckpointError, match="--engine hf"):
        benches("ckpt-300").new_vllm(GREEDY, setup=setup)
