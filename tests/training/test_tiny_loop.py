"""The tiny training loop: it learns, it is seeded, and it teaches only the answer."""

import math

import pytest
import torch
from PIL import Image

from coordeval.coords import frame_named
from coordeval.data.canonical import sample_text
from coordeval.data.prompts import default_prompt
from coordeval.data.synthetic import SceneSpec, make_scene
from coordeval.parsers.dialects import dialect_named
from coordeval.training.losses import Stage1Weights
from coordeval.training.tiny.examples import Example, ExampleEncoder
from coordeval.training.tiny.loop import TinyRecipe, train_tiny
from coordeval.training.tiny.model import TinyConfig, build_model, tiny_tokenizer
from coordeval.training.tuning.muon_adamw import OptimizerSettings, build_optimizers

SPEC = SceneSpec(max_objects=2)
COORDJSON = dialect_named("coordjson")


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer with the words of the scenes."""
    return tiny_tokenizer(SPEC.classes)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    """An encoder with the default prompt."""
    return ExampleEncoder(tokenizer, default_prompt(dialect=COORDJSON), TinyConfig().vision)


def _draw(step):
    out = []
    for seed in range(4 * step, 4 * step + 4):
        image, sample = make_scene(SPEC, seed)
        answer = sample_text(
            sample, dialect=COORDJSON, frame=frame_named("coordexp"), order="sorted"
        )
        out.append(Example(image, answer))
    return out


def _train(tokenizer, encoder, steps, **recipe):
    model = build_model(TinyConfig(), tokenizer, seed=0)
    losses = []
    settings = OptimizerSettings(warmup_steps=5)
    train_tiny(
        model,
        encoder,
        TinyRecipe(steps=steps, batch_size=4, optimizer=settings, **recipe),
        _draw,
        lambda _, loss: losses.append(loss),
    )
    return model, losses


@pytest.mark.slow
def test_twenty_steps_reduce_the_loss_and_repeat_exactly(tokenizer, encoder):
    """Twenty steps at least halve the loss, and the same seed gives the same weights again."""
    model, losses = _train(tokenizer, encoder, 20, bfloat16=False)
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    again, repeated = _train(tokenizer, encoder, 20, bfloat16=False)
    assert repeated == losses
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not model.training


def test_only_the_answer_is_taught(tokenizer, encoder):
    """Taught positions are exactly the answer and its end token, whatever the image size."""
    images = [Image.new("RGB", size) for size in ((64, 64), (96, 80))]
    answers = ['{"objects": []}', '{"objects": [{"desc": "red circle", "bbox_2d": [']
    batch = encoder.encode(
        [Example(images[0], answers[0]), Example(images[1], answers[1], ends=False)]
    )
    ids, mask = batch.inputs["input_ids"], batch.is_answer_BL
    assert tokenizer.decode(ids[0][mask[0]]) == answers[0] + "<|im_end|>"
    assert tokenizer.decode(ids[1][mask[1]]) == answers[1]
    image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert (ids == image_id).sum(dim=1).tolist() == [16, 30]
    assert torch.equal(batch.inputs["mm_token_type_ids"], (ids == image_id).long())


def test_answers_are_cut_at_the_token_budget(tokenizer):
    """An answer beyond the budget is cut there, without an end token."""
    prompt = default_prompt(dialect=COORDJSON)
    encoder = ExampleEncoder(tokenizer, prompt, TinyConfig().vision, max_tokens=7)
    batch = encoder.encode([Example(Image.new("RGB", (64, 64)), '{"objects": []}' * 9)])
    assert int(batch.is_answer_BL.sum()) == 7
    assert batch.inputs["input_ids"][0, -1] != tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_padding_changes_no_logit(tokenizer, encoder):
    """A row padded on the right computes the same logits as the row alone."""
    model = build_model(TinyConfig(), tokenizer, seed=0).eval()
    short, long = _draw(0)[0], Example(Image.new("RGB", (96, 96)), '{"objects": []}' * 30)
    alone, both = encoder.encode([short]), encoder.encode([short, long])
    with torch.no_grad():
        expected = model(**alone.inputs).logits[0]
        found = model(**both.inputs).logits[0, : expected.shape[0]]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_weight_has_one_optimizer(tokenizer):
    """Matrices inside the model go to Muon, tables and vectors to AdamW, none is left out."""
    model = build_model(TinyConfig(), tokenizer, seed=0)
    adamw, muon = build_optimizers(model, OptimizerSettings())
    owned = [
        [id(p) for group in optimizer.param_groups for p in group["params"]]
        for optimizer in (adamw, muon)
    ]
    assert sorted(owned[0] + owned[1]) == sorted(id(p) for p in model.parameters())
    assert id(model.get_input_embeddings().weight) in owned[0]


def test_schedules_start_and_end_where_they_say():
    """Warm-up rises to the peak, cosine ends at its share; sigma narrows and then stays."""
    settings = OptimizerSettings(warmup_steps=10, final_share=0.1)
    assert settings.share(0, 100) == pytest.approx(0.1)
    assert settings.share(100, 100) == pytest.approx(0.1)
    assert max(settings.share(step, 100) for step in range(100)) <= 1.0
    recipe = TinyRecipe(steps=100, sigma_start=40.0, sigma_end=2.0, sigma_share=0.5)
    assert recipe.sigma(0) == 40.0
    assert recipe.sigma(25) == pytest.approx(math.sqrt(80.0))
    assert recipe.sigma(50) == recipe.sigma(99) == pytest.approx(2.0)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_training(tokenizer, encoder):
    """Training on weights that are NaN raises at once and puts the patch embedding back."""
    model = build_model(TinyConfig(), tokenizer, seed=0)
    with torch.no_grad():
        model.get_input_embeddings().weight[:] = math.nan
    stock = model.model.visual.patch_embed.forward.__func__
    recipe = TinyRecipe(steps=2, batch_size=4, weights=Stage1Weights())
    with pytest.raises(FloatingPointError, match="step 0"):
        train_tiny(model, encoder, recipe, _draw)
    assert model.model.visual.patch_embed.forward.__func__ is stock
