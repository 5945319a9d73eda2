"""Promises about other members of the family: the same code serves Qwen2.5-VL."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from coordeval.data.prompts import default_prompt  # noqa: E402
from coordeval.engines.base import DecodeSettings  # noqa: E402
from coordeval.engines.checkpoint import resolve_checkpoint  # noqa: E402
from coordeval.engines.hf import HfEngine  # noqa: E402
from coordeval.engines.hf_loading import load_model, load_reader  # noqa: E402
from coordeval.engines.runner import make_requests  # noqa: E402
from coordeval.parsers.dialects import dialect_named  # noqa: E402
from coordeval.training.tiny.model import tiny_tokenizer  # noqa: E402
from coordeval.training.tiny.processor import TinyVision, write_processor_files  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def qwen25_dir(tmp_path_factory):
    """A random tiny Qwen2.5-VL checkpoint."""
    folder = tmp_path_factory.mktemp("qwen25")
    tokenizer = tiny_tokenizer()
    special = tokenizer.convert_tokens_to_ids
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "initializer_range": 0.2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [4, 6, 6],
            },
            "eos_token_id": special("<|im_end|>"),
            "pad_token_id": special("<|endoftext|>"),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "window_size": 32,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        image_token_id=special("<|image_pad|>"),
        video_token_id=special("<|video_pad|>"),
        vision_start_token_id=special("<|vision_start|>"),
        vision_end_token_id=special("<|vision_end|>"),
    )
    torch.manual_seed(0)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=special("<|im_end|>"), pad_token_id=special("<|endoftext|>")
    )
    model.save_pretrained(folder)
    write_processor_files(folder, tokenizer, TinyVision())
    return folder


def test_qwen25_decodes_the_same_alone_and_in_a_batch(qwen25_dir, image_samples):
    """Its windowed vision encoder and positions survive batching as Qwen3-VL's do."""
    checkpoint = resolve_checkpoint(str(qwen25_dir))
    assert json.loads((qwen25_dir / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    decode = DecodeSettings(max_new_tokens=12)
    answers = []
    for batch_size in (1, 5):
        engine = HfEngine(
            reader=load_reader(checkpoint),
            load=lambda: model,
            prompt=default_prompt(dialect=dialect_named("coordjson")),
            decode=decode,
            dtype="fp32",
            batch_size=batch_size,
        )
        batches = engine.generate(make_requests(image_samples, decode))
        answers.append({line.id: line.token_ids for batch in batches for line in batch})
    assert answers[0] == answers[1]
    assert all(answers[0].values())
    assert len({tuple(ids) for ids in answers[0].values()}) > 1
