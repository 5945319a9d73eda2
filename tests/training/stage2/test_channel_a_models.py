"""Channel A on models as they are trained: adapters, rows alone, checkpointing, mixed precision."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from channel_a_setup import Material, gradients, same, stage2, step, tiny_model
from context_reference import slow_loss, slow_terms
from stage1_setup import spread

from coordeval.training.config import DataConfig, TrainConfig, TuneConfig
from coordeval.training.stage2.channel_a import ChannelA
from coordeval.training.tuning.adapters import prepare_parameters


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Scenes as examples."""
    return Material(tmp_path_factory.mktemp("base"))


def prepared(model, material, **tune):
    """A model as `tune` wants it trained, and its coordinate rows."""
    config = TrainConfig(
        model="-", output_dir="-", data=DataConfig(train="-"), tune=TuneConfig(**tune)
    )
    return prepare_parameters(model, config, material.coord_ids.tolist())


def slow_gradients(model, batch, config, channel, material):
    """Gradients of the slow reference on a plain model."""
    model.zero_grad()
    sums, weights, _ = slow_terms(
        model, batch, material.coord_ids, config, end_ids=material.end_ids
    )
    slow_loss(sums, weights, channel.counts(batch)).backward()
    return gradients(model)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
def test_rows_alone_learn_through_the_context(material, tied, mode):
    """With `coord_rows` the rows' gradient is that of the whole model's, contexts included."""
    model, batch = tiny_model(tied=tied), material.batch(1, 3)
    config = stage2("expected", mode=mode)
    plain = slow_gradients(model, batch, config, material.channel(model, config), material)
    model, rows = prepared(model, material, what="coord_rows")
    step(material.channel(model, config), model, batch)
    assert len(rows) == (1 if tied else 2)
    others = torch.ones(model.get_input_embeddings().weight.shape[0], dtype=torch.bool)
    others[material.coord_ids] = False
    names = ["model.language_model.embed_tokens.weight", "lm_head.weight"]
    for row, name in zip(rows, names, strict=False):
        assert not row.table_VH.grad[others].any()
        row.take()
        expected = plain[name][material.coord_ids]
        assert expected.any()
        torch.testing.assert_close(row.rows_KH.grad, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["expected", "argmax"])
def test_rows_with_a_rate_of_their_own_learn_through_the_context(material, tied, kind):
    """With `coord_rows_lr` rows and all other parameters have the whole model's gradients."""
    model, batch, config = tiny_model(tied=tied), material.batch(1), stage2(kind)
    plain = slow_gradients(model, batch, config, material.channel(model, config), material)
    model, rows = prepared(model, material, coord_rows_lr=1e-3)
    _, ours = step(material.channel(model, config), model, batch)
    assert rows
    same(ours, plain)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
@pytest.mark.parametrize(
    "tune", [{"what": "lora"}, {"what": "lora", "coord_rows_lr": 1e-3}, {"what": "dora"}]
)
def test_an_untrained_adapter_gives_what_the_model_gives(material, tied, mode, tune):
    """PEFT's wrapper: same loss; trained rows have the gradient of the reference's rows."""
    model, batch, config = tiny_model(tied=tied), material.batch(1), stage2(mode=mode)
    before, _ = step(material.channel(model, config), model, batch)
    plain = slow_gradients(model, batch, config, material.channel(model, config), material)
    adapted, rows = prepared(model, material, **tune)
    found, ours = step(material.channel(adapted, config), adapted, batch)
    assert rows == []
    assert float(found.loss.detach()) == pytest.approx(float(before.loss.detach()), rel=1e-6)
    assert {name for name in ours if "lora_B" in name}
    assert all(float(g.abs().max()) > 0 for name, g in ours.items() if "lora_B" in name)
    tokens = {name: g for name, g in ours.items() if "trainable_tokens" in name}
    assert bool(tokens) == ("coord_rows_lr" in tune)
    expected = [plain["model.language_model.embed_tokens.weight"][material.coord_ids]]
    if not tied:
        expected.append(plain["lm_head.weight"][material.coord_ids])
    for gradient, one in zip(tokens.values(), expected, strict=False):
        torch.testing.assert_close(gradient, one, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
def test_an_adapter_s_gradient_is_that_of_its_merged_weights(material, mode):
    """LoRA's B learns dL/dW A^T, with the reference's dL/dW through all passes."""
    model, batch = tiny_model(), material.batch(1)
    config = stage2("top_k", mode=mode)
    plain = slow_gradients(model, batch, config, material.channel(model, config), material)
    adapted, _ = prepared(model, material, what="lora", lora_rank=4, lora_alpha=8.0)
    _, ours = step(material.channel(adapted, config), adapted, batch)
    parameters = dict(adapted.named_parameters())
    checked = 0
    for name, gradient in ours.items():
        if "lora_B" in name:
            weight = name.removeprefix("base_model.model.").replace("lora_B.default.", "")
            a = parameters[name.replace("lora_B", "lora_A")]
            torch.testing.assert_close(gradient, 2.0 * plain[weight] @ a.T, rtol=1e-5, atol=1e-8)
            checked += 1
    assert checked >= 14


@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
@pytest.mark.parametrize("adapter", [False, True])
def test_checkpointing_changes_nothing(material, mode, adapter):
    """Layers that are computed again in the backward pass give the same loss and gradients."""
    found = []
    for checkpointing in (False, True):
        model = tiny_model()
        if adapter:
            torch.manual_seed(0)
            model, _ = prepared(model, material, what="lora")
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            if adapter:
                model.enable_input_require_grads()
        channel = material.channel(model, stage2("gumbel_softmax", mode=mode))
        found.append(step(channel, model, material.batch(1)))
    (a, ours), (b, theirs) = found
    assert a.loss.equal(b.loss)
    same(ours, theirs, 1e-9)


@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
@pytest.mark.parametrize("adapter", [False, True])
def test_mixed_precision_stays_near_float32(material, mode, adapter):
    """Under bfloat16 autocast every parameter learns, in nearly the direction of float32."""
    found = []
    for enabled in (False, True):
        model = tiny_model(dtype=torch.float32)
        if adapter:
            torch.manual_seed(0)
            model, _ = prepared(model, material, what="lora", coord_rows_lr=1e-3)

        def autocast(enabled=enabled):
            return torch.autocast("cpu", torch.bfloat16, enabled=enabled)

        channel = material.channel(model, stage2(mode=mode), autocast=autocast)
        found.append(step(channel, model, material.batch(1, 3)))
    (plain, theirs), (mixed, ours) = found
    assert float(mixed.loss.detach()) == pytest.approx(float(plain.loss.detach()), rel=0.02)
    joined = [torch.cat([g.flatten() for g in each.values()]) for each in (ours, theirs)]
    assert float(torch.cosine_similarity(*joined, dim=0)) > 0.98
    for name, gradient in theirs.items():
        assert bool(ours[name].any()) == bool(gradient.any()), name
        assert ours[name].dtype == torch.float32


def test_bfloat16_weights_keep_rows_exact(material):
    """A model of bfloat16 weights is given the picked rows themselves."""
    model, batch = tiny_model(dtype=torch.bfloat16), material.batch(1)
    config = stage2("argmax", mode="em_detach", iterations=2)
    given = []
    handle = model.model.language_model.register_forward_pre_hook(
        lambda _module, _args, kwargs: given.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    computed, ours = step(material.channel(model, config), model, batch)
    handle.remove()
    slots = torch.isin(batch["labels"], material.coord_ids)
    rows = model.get_input_embeddings().weight[material.coord_ids]
    for embedding in given[1][slots]:
        assert (rows == embedding).all(dim=1).any()
    assert float(computed.values["context/off_manifold"].loss_sum) == 0
    assert all(bool(g.isfinite().all()) for g in ours.values())


def test_dropout_of_an_adapter_is_drawn_anew_in_every_pass(material):
    """With dropout, passes see different masks, and the step is repeated by its seed."""
    model, batch = tiny_model(), material.batch(1)
    torch.manual_seed(0)
    model, _ = prepared(model, material, what="lora", lora_dropout=0.5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    channel = material.channel(model, stage2())
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(step(channel, model, batch)[0].loss.detach()))
    assert losses[0] == losses[1] != losses[2]


def test_the_channel_is_one(material):
    """It has what a trainer asks of a channel, and its configuration's own defaults run."""
    from coordeval.training.stage2.config import Stage2Config

    model, batch = tiny_model(), material.batch(1)
    channel = material.channel(model, replace(Stage2Config(), b_ratio=0.0))
    assert isinstance(channel, ChannelA)
    computed, _ = step(channel, model, batch)
    assert tuple(computed.terms) == channel.names
    assert tuple(computed.values) == channel.value_names
    assert channel.names == (
        "A1/text_ce", "A2/soft_ce", "A2/w1", "A2/gate", "A2/smooth_l1", "A2/ciou"
    )  # fmt: skip
    counts = channel.counts(batch)
    assert {name: computed.terms[name].num_tokens for name in channel.names} == counts


@pytest.mark.slow
def test_two_processes_see_one_forward_pass(tmp_path):
    """DistributedDataParallel gives one process's gradients, also where a rank has no slot."""
    done = spread(Path(__file__).with_name("channel_a_worker.py"), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "both processes agree" in done.stdout
