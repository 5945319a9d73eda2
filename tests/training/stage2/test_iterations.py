"""Passes inside one call: what each reads, what it costs, and that nothing of the model stays."""

from contextlib import nullcontext

import pytest
import torch
from channel_a_setup import Material, calls_of, same, stage2, step, tiny_model
from context_reference import slow_passes
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from coordeval.training.config import DataConfig
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.positions import shifted
from coordeval.training.stage2.context import context_embeddings
from coordeval.training.stage2.iterations import ContextIterations, replaced_embeddings


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Scenes as examples."""
    return Material(tmp_path_factory.mktemp("base"))


def passes_of(material, model, batch, config, finish=None):
    """What the iterations leave, without any loss."""
    found = []

    def keep(passes):
        found.append(passes)
        return passes.last_NH.sum()

    iterations = ContextIterations(
        model, material.coord_ids, config.channel_a, autocast=nullcontext, seed=3
    )
    loss = iterations(model, batch, finish or keep)
    return found[0] if found else loss


def slots_of(material, batch):
    """Rows and columns of the taught coordinate tokens."""
    return torch.nonzero(torch.isin(batch["labels"], material.coord_ids), as_tuple=True)


class _Seen:
    """What the language part is given in each pass."""

    def __init__(self, model):
        self.calls = []
        self._handle = model.model.language_model.register_forward_pre_hook(
            lambda _module, _args, kwargs: self.calls.append(dict(kwargs)), with_kwargs=True
        )

    def close(self):
        self._handle.remove()
        return self.calls


def test_later_passes_differ_at_the_answer_s_coordinates_alone(material):
    """Embeddings change at taught slots and nowhere else; all other inputs are the very same."""
    model, batch = tiny_model(), material.batch(1, 3)
    # Coordinate tokens of a prompt are not the model's answer, and stay what they are.
    batch["input_ids"][:, 2] = material.coord_ids[17]
    config = stage2("expected", iterations=3)
    seen = _Seen(model)
    passes = passes_of(material, model, batch, config)
    calls = seen.close()
    assert len(calls) == 3
    first, rows = calls[0]["inputs_embeds"], slots_of(material, batch)
    is_slot = torch.zeros_like(batch["labels"], dtype=torch.bool)
    is_slot[rows] = True
    hidden = [passes.first_NH]
    for call in calls[1:]:
        assert call["inputs_embeds"][~is_slot].equal(first[~is_slot])
        assert (call["inputs_embeds"][is_slot] != first[is_slot]).any(dim=1).all()
        for key in ("position_ids", "attention_mask", "visual_pos_masks"):
            assert call[key].equal(calls[0][key]), key
        for one, other in zip(
            call["deepstack_visual_embeds"], calls[0]["deepstack_visual_embeds"], strict=True
        ):
            assert one.equal(other)
    # The second pass reads what the first one's states at p - 1 say of p.
    places = shifted(batch)
    flat = rows[0] * batch["labels"].shape[1] + rows[1]
    before = hidden[0][torch.isin(places.states_N, flat - 1)]
    table = model.get_input_embeddings().weight[material.coord_ids]
    expected = context_embeddings(before @ table.T, table, config.channel_a.context)
    torch.testing.assert_close(calls[1]["inputs_embeds"][is_slot], expected)


def test_what_comes_before_the_first_coordinate_is_the_same_in_all_passes(material):
    """A causal model's states change behind a replaced coordinate, not in front of it."""
    model, batch = tiny_model(), material.batch(3)
    passes = passes_of(material, model, batch, stage2())
    first = int(slots_of(material, batch)[1].min())
    is_before = passes.places.states_N < first
    assert 0 < int(is_before.sum()) < len(is_before)
    torch.testing.assert_close(passes.last_NH[is_before], passes.first_NH[is_before])
    assert (passes.last_NH[~is_before] != passes.first_NH[~is_before]).any(dim=1).all()


@pytest.mark.parametrize("kind", ["expected", "gumbel_softmax", "rounded_expectation"])
@pytest.mark.parametrize("part", ["embed_tokens", "lm_head", "layers.1", "merger"])
def test_a_changed_model_changes_later_states_as_by_hand(material, kind, part):
    """A perturbed weight moves the last pass's hidden states exactly as in the slow reference."""
    model, batch = tiny_model(tied=False), material.batch(1, 3)
    config = stage2(kind, iterations=2)
    states = []
    for scale in (0.0, 0.5):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if part in name:
                    generator = torch.Generator().manual_seed(len(name))
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.add_(scale * 0.1 * noise)
            passes = passes_of(material, model, batch, config)
            _, hidden, distances = slow_passes(model, batch, material.coord_ids, config)
        by_hand = hidden[-1].flatten(0, 1)[passes.places.states_N]
        torch.testing.assert_close(passes.last_NH, by_hand)
        assert float(passes.off_manifold.loss_sum) == pytest.approx(sum(distances), abs=1e-9)
        states.append(passes.last_NH)
    assert (states[0] - states[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("mode", "gradient", "graphs"),
    [
        ("unroll", "soft", [True, True, True, True]),
        ("unroll", "stop", [True, False, False, True]),
        ("em_detach", "soft", [True, False, False, True]),
    ],
)
def test_images_are_seen_once_and_only_needed_passes_have_a_graph(material, mode, gradient, graphs):
    """One call of the vision tower, n of the language part; iteration 0 always has its graph."""
    model, batch = tiny_model(), material.batch(1)
    channel = material.channel(model, stage2("expected", gradient, mode=mode, iterations=4))
    with calls_of(model.model.visual) as seen, calls_of(model.model.language_model) as passes:
        computed, _ = step(channel, model, batch)
    assert seen == [True]
    assert passes == graphs
    assert computed.values["context/off_manifold"].num_tokens == 3 * 4


class _WideProducts(TorchDispatchMode):
    """Rows that are multiplied with the whole vocabulary."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        is_product = function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
        if is_product and out.shape[-1] == self.vocabulary:
            self.rows += out.shape[0]
        return out


@pytest.mark.parametrize("tied", [True, False])
def test_contexts_need_no_product_with_the_whole_vocabulary(material, tied):
    """Up to the loss, only the coordinate columns of the head are multiplied."""
    model, batch = tiny_model(tied=tied), material.batch(1)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    counted = []

    def finish(passes):
        counted.append(mode.rows)
        return passes.last_NH.sum()

    with _WideProducts(vocabulary) as mode:
        passes_of(material, model, batch, stage2(iterations=3), finish)
        assert counted == [0]
        channel = material.channel(model, stage2(iterations=3))
        channel(model, batch, channel.divisors(channel.counts(batch)))
        assert mode.rows > 0


def _state(model):
    """Everything of a model's modules that a call could leave behind."""
    return [
        (len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)), m.training)
        for m in model.modules()
    ]


@pytest.mark.parametrize("breaks", [None, "finish", "vision", "later"])
def test_nothing_of_the_model_is_changed_for_longer_than_the_call(material, breaks):
    """Hooks and remembered images are gone afterwards, whatever went wrong in between."""
    model, batch = tiny_model(), material.batch(1)
    before = _state(model)
    handles = []

    def stop(*_args):
        raise KeyError(breaks)

    def stop_later(_module, args, kwargs=None):
        calls.append(1)
        if len(calls) == 2:
            stop()

    calls = []
    if breaks == "vision":
        handles.append(model.model.visual.register_forward_hook(stop))
    elif breaks == "later":
        handles.append(model.model.language_model.register_forward_pre_hook(stop_later))
    if breaks is None:
        passes_of(material, model, batch, stage2())
    else:
        with pytest.raises(KeyError, match=breaks):
            passes_of(material, model, batch, stage2(), stop if breaks == "finish" else None)
    for handle in handles:
        handle.remove()
    assert _state(model) == before
    with torch.no_grad():
        one = model.model.get_image_features(batch["pixel_values"], batch["image_grid_thw"])
        other = model.model.get_image_features(batch["pixel_values"] * 2, batch["image_grid_thw"])
    assert not one.pooler_output[0].equal(other.pooler_output[0])


class _Head(nn.Linear):
    """A head that is more than a matrix to those who look at it."""


@pytest.mark.parametrize("bias", [False, True])
def test_a_head_that_must_be_called_gives_the_same(material, bias):
    """Heads of other classes, with and without bias, are called, and give what a matrix gives."""
    found = []
    for kind in (nn.Linear, _Head):
        model = tiny_model(tied=False)
        head = kind(32, model.lm_head.weight.shape[0], bias=bias).double()
        with torch.no_grad():
            head.weight.copy_(model.lm_head.weight)
            if bias:
                head.bias.copy_(torch.linspace(-1, 1, len(head.bias)))
        model.lm_head = head
        found.append(step(material.channel(model, stage2()), model, material.batch(1)))
    assert float(found[0][0].loss.detach()) == pytest.approx(
        float(found[1][0].loss.detach()), rel=1e-9
    )
    same(found[0][1], found[1][1])


@pytest.mark.parametrize("kind", ["expected", "gumbel_softmax"])
def test_packed_rows_give_what_samples_alone_give(material, kind):
    """Several samples in a row keep to themselves in every pass, noise included."""
    data = DataConfig(train=str(material.data.dataset.path), limit=3, packing=True, max_length=500)
    packed = TrainDataset(data, material.reader)
    model, config = tiny_model(), stage2(kind, iterations=2)
    channel = material.channel(model, config)
    together = packed.collator()([packed[number] for number in range(len(packed))])
    assert together["input_ids"].shape[0] < 3
    counts = channel.counts(together)
    whole, ours = step(channel, model, together, counts)
    alone = [step(channel, model, material.batch(number), counts) for number in range(3)]
    loss = sum(float(computed.loss.detach()) for computed, _ in alone)
    assert float(whole.loss.detach()) == pytest.approx(loss, rel=1e-9)
    same(ours, {name: sum(part[name] for _, part in alone) for name in ours})


def test_an_embedding_that_is_not_asked_is_an_error():
    """A model that does not look its ids up is refused, not trained on true coordinates."""
    embedding, ids = nn.Embedding(5, 3), torch.zeros(1, 4, dtype=torch.long)
    replaced = replaced_embeddings(embedding, ids, torch.tensor([2]), torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="did not look its input ids up"), replaced:
        embedding(ids[:, :2])
    with replaced_embeddings(embedding, ids, torch.tensor([2]), torch.ones(1, 3)):
        out = embedding(ids)
    assert out[0, 2].tolist() == [1.0, 1.0, 1.0]
    assert out[0, [0, 1, 3]].equal(embedding(ids)[0, [0, 1, 3]])
