"""Tiny checkpoints: ordinary folders that the stock classes read back unchanged."""

import json

import pytest
import torch
from PIL import Image

from coordeval.coords import NUM_BINS, CoordVocabulary, coord_token
from coordeval.data.prompts import default_prompt
from coordeval.engines.hf_inputs import encode_sample, render_prompt
from coordeval.parsers.dialects import dialect_named
from coordeval.training.tiny.examples import Example, ExampleEncoder
from coordeval.training.tiny.model import (
    TinyConfig,
    build_model,
    save_checkpoint,
    write_random_checkpoint,
)
from coordeval.training.tiny.processor import TinyVision, image_processor, prompt_ids

PROMPT = default_prompt(dialect=dialect_named("coordjson"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A random tiny checkpoint folder."""
    return write_random_checkpoint(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    """The checkpoint's tokenizer as the stock loader gives it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


def _load(checkpoint, dtype=torch.float32):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=dtype).eval()


def _inputs(checkpoint, tokenizer, sizes):
    encoder = ExampleEncoder(tokenizer, PROMPT, TinyVision())
    images = [Image.new("RGB", size, (200, 40 * i, 30)) for i, size in enumerate(sizes)]
    return encoder.encode([Example(image, '{"objects": []}') for image in images])


def test_a_thousand_single_coordinate_tokens(tokenizer):
    """Every coordinate token is one token of its own, in bin order, wherever it stands."""
    vocabulary = CoordVocabulary.from_tokenizer(tokenizer)
    assert vocabulary.is_contiguous
    text = f'"bbox_2d": [{coord_token(0)}, {coord_token(999)}]'
    ids = tokenizer(text)["input_ids"]
    assert vocabulary.bins_of(ids)[vocabulary.bins_of(ids) >= 0].tolist() == [0, 999]


@pytest.mark.parametrize(
    "text",
    ["第九", "85", "naïve café 🪁", '{"objects": [{"desc": "a", "bbox_3d": [', "\ttab\n", "مرحبا"],
)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    """Byte fallback: encoding and decoding gives the text back, in every script."""
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_foreign_words_are_compact(tokenizer):
    """The Chinese ordinal that models put into slots is one token, as in large vocabularies."""
    assert len(tokenizer("第九")["input_ids"]) == 1
    assert len(tokenizer("85")["input_ids"]) == 2


def test_folder_is_small_and_complete(checkpoint):
    """At most 4 MB, bfloat16 safetensors, and the files and class names of a stock checkpoint."""
    files = {path.name for path in checkpoint.iterdir()}
    assert files >= {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "video_preprocessor_config.json",
    }
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) <= 4 * 1024 * 1024
    config = json.loads((checkpoint / "config.json").read_text())
    assert (config["model_type"], config["dtype"]) == ("qwen3_vl", "bfloat16")
    image = json.loads((checkpoint / "preprocessor_config.json").read_text())
    assert image["image_processor_type"] == "Qwen2VLImageProcessor"
    assert image["processor_class"] == "Qwen3VLProcessor"


def test_channels_are_scaled_as_the_vision_says(tmp_path, tokenizer):
    """Mean and spread of a checkpoint's photos go into its files and come back as (v - m) / s."""
    vision = TinyVision(mean=(0.7, 0.6, 0.5), std=(0.1, 0.2, 0.5))
    config = TinyConfig(vision=vision)
    save_checkpoint(build_model(config, tokenizer, seed=0), tokenizer, vision, tmp_path / "c")
    written = json.loads((tmp_path / "c" / "preprocessor_config.json").read_text())
    assert (written["image_mean"], written["image_std"]) == ([0.7, 0.6, 0.5], [0.1, 0.2, 0.5])
    image = Image.new("RGB", (64, 64), (204, 204, 204))  # 0.8
    patches = image_processor(vision)(images=[image], return_tensors="pt")["pixel_values"]
    found = patches.reshape(-1, 3, 2 * 8 * 8).mean(dim=(0, 2))
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.6]), atol=1e-4, rtol=0)


def test_generation_ends_at_the_turn(checkpoint, tokenizer):
    """The end token is `<|im_end|>`, decoding is greedy by default, and padding is another token."""
    config = json.loads((checkpoint / "generation_config.json").read_text())
    assert config["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert config["do_sample"] is False
    assert config["pad_token_id"] != config["eos_token_id"]


def test_reloaded_checkpoint_gives_equal_logits(tmp_path, tokenizer):
    """What is saved, loaded by the stock class, computes the same logits as the bf16 original."""
    config = TinyConfig()
    model = build_model(config, tokenizer, seed=1)
    out = save_checkpoint(model, tokenizer, config.vision, tmp_path / "ckpt")
    reloaded = _load(out)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():  # not the rotary frequencies: those stay float32
            parameter.copy_(parameter.to(torch.bfloat16))
    batch = _inputs(out, tokenizer, [(64, 64), (80, 96)])
    with torch.no_grad():
        expected = model(**batch.inputs).logits
        found = reloaded(**batch.inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_seed_decides_the_weights(tmp_path, tokenizer):
    """The same seed gives the same bytes, another seed other weights; torch's own state is kept."""
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = (
        write_random_checkpoint(tmp_path / name, seed=seed) / "model.safetensors"
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


@pytest.mark.parametrize(
    ("size", "visual_tokens"),
    [((64, 64), 16), ((96, 96), 36), ((32, 32), 16), ((640, 480), 30), ((4000, 3000), 30)],
)
def test_images_of_any_size_fit_the_token_budget(checkpoint, size, visual_tokens):
    """Small images are enlarged to 16 visual tokens, photos scaled down to at most 36."""
    from transformers import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)
    grid = processor(images=[Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"]
    assert int(grid.prod()) // 4 == visual_tokens


@pytest.mark.parametrize("size", [(64, 64), (80, 64), (640, 427)])
def test_training_prompt_is_the_rollout_prompt(checkpoint, tokenizer, size):
    """Training puts the same prompt tokens and pixels before the answer as the engine does."""
    from transformers import Qwen2VLImageProcessorPil

    image = Image.effect_noise(size, 50).convert("RGB")
    image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    engine = encode_sample(
        render_prompt(tokenizer, PROMPT, image_id),
        image,
        Qwen2VLImageProcessorPil.from_pretrained(checkpoint),
        image_id,
    )
    batch = ExampleEncoder(tokenizer, PROMPT, TinyVision()).encode([Example(image, "x")])
    prompt_length = int(batch.is_answer_BL[0].nonzero()[0])
    assert batch.inputs["input_ids"][0, :prompt_length].tolist() == engine.prompt_ids
    torch.testing.assert_close(batch.inputs["pixel_values"], engine.pixel_values)


def test_prompt_names_every_part_of_the_turn(tokenizer):
    """The prompt's tokens spell Qwen's turns, with the image before the text."""
    text = tokenizer.decode(prompt_ids(tokenizer, PROMPT, 2))
    assert text.startswith(
        "<|im_start|>user\n<|vision_start|><|image_pad|><|image_pad|><|vision_end|>Detect"
    )
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_number_line_starts_smooth(tokenizer):
    """Near bins start with similar rows and far ones do not, so that training can begin there."""
    model = build_model(TinyConfig(), tokenizer, seed=0)
    ids = torch.tensor(CoordVocabulary.from_tokenizer(tokenizer).token_ids)
    rows = torch.nn.functional.normalize(model.get_input_embeddings().weight[ids], dim=1)
    assert rows.shape[0] == NUM_BINS
    near, far = (rows[:-1] * rows[1:]).sum(1).mean(), (rows[:500] * rows[500:]).sum(1).mean()
    assert near > 0.9 > 0.5 > far
