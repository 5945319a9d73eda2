"""Channel A against a slow reference, and what its terms, counts and gradients promise."""

from contextlib import nullcontext

import pytest
import torch
from channel_a_setup import (
    EVERY_TERM,
    NO_TERM,
    Material,
    gradients,
    same,
    stage2,
    step,
    tiny_model,
)
from context_reference import slow_loss, slow_terms

from coordeval.errors import ConfigError
from coordeval.training.config import BoxLossConfig
from coordeval.training.data.batches import blanked
from coordeval.training.data.labels import DESCRIPTION
from coordeval.training.data.positions import shifted
from coordeval.training.diagnostics.totals import add_up, totals_of
from coordeval.training.diagnostics.values import diagnose, targets_from_labels
from coordeval.training.loop.teacher_forced import TeacherForced
from coordeval.training.losses.objective import Stage1Objective
from coordeval.training.stage2.config import CONTEXT_GRADIENTS, AnchorWeights, TermWeights


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Scenes as examples."""
    return Material(tmp_path_factory.mktemp("base"))


CASES = [
    (kind, gradient, mode)
    for kind, known in CONTEXT_GRADIENTS.items()
    for gradient in known
    for mode in ("unroll", "em_detach")
    if mode == "unroll" or gradient == known[0]
]


@pytest.mark.parametrize(("kind", "gradient", "mode"), CASES)
def test_every_term_and_gradient_is_the_slow_reference(material, kind, gradient, mode):
    """Losses, counts, distances and all gradients of three iterations equal those by hand."""
    model = tiny_model(tied=kind != "top_k")
    batch = material.batch(1, 3)
    config = stage2(kind, gradient, mode=mode)
    channel = material.channel(model, config)
    computed, ours = step(channel, model, batch)
    model.zero_grad()
    sums, weights, distances = slow_terms(
        model, batch, material.coord_ids, config, end_ids=material.end_ids
    )
    assert computed.terms.keys() == weights.keys() == channel.weights.keys()
    for name, term in computed.terms.items():
        assert float(term.loss_sum) == pytest.approx(
            float(sums[name].detach()), rel=1e-6, abs=1e-9
        ), name
    loss = slow_loss(sums, weights, channel.counts(batch))
    assert float(computed.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-6)
    loss.backward()
    same(ours, gradients(model))
    off = computed.values["context/off_manifold"]
    assert off.num_tokens == len(distances) > 0
    assert float(off.loss_sum) == pytest.approx(sum(distances), rel=1e-6, abs=1e-12)


def _plain_text_gradient(material, model, batch, weight):
    """Gradient of the weighted mean text cross-entropy of an ordinary forward pass, by hand."""
    model.zero_grad()
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "mm_token_type_ids")}
    images = {key: batch[key] for key in ("pixel_values", "image_grid_thw")}
    logits = model(**inputs, **images, use_cache=False).logits[:, :-1].flatten(0, 1)
    labels = batch["labels"][:, 1:].flatten()
    is_text = (labels != -100) & ~torch.isin(labels, material.coord_ids)
    (weight * torch.nn.functional.cross_entropy(logits[is_text], labels[is_text])).backward()
    return gradients(model)


def _text_keeps_its_gradient(material, mode, **broken):
    """What channel A's text cross-entropy adds to its gradient is that of a plain pass."""
    model, batch = tiny_model(tied=False), material.batch(1, 3)
    found = {}
    for weight in (0.0, 1.0):
        config = stage2(mode=mode, text_ce=weight)
        channel = material.channel(model, config, **broken)
        found[weight] = step(channel, model, batch)[1]
    added = {name: found[1.0][name] - found[0.0][name] for name in found[1.0]}
    plain = _plain_text_gradient(material, model, batch, 1.0)
    same(added, plain)
    for part in ("embed_tokens.weight", "lm_head.weight", "layers.0.mlp.up_proj.weight"):
        assert any(name.endswith(part) and float(g.abs().max()) > 0 for name, g in added.items())


@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
def test_text_always_learns_from_iteration_0(material, mode):
    """Text cross-entropy has the gradient of a plain teacher-forced pass on every parameter."""
    _text_keeps_its_gradient(material, mode)


@pytest.mark.parametrize("mode", ["unroll", "em_detach"])
def test_the_known_mistake_is_seen_where_it_is_brought_back(material, mode):
    """With iteration 0's loss taken without gradient, the check of the text's gradient fails."""
    with pytest.raises(AssertionError):
        _text_keeps_its_gradient(material, mode, _anchor_without_gradient=True)


def test_the_known_mistake_leaves_the_logged_values_alone(material):
    """Its losses look right: only the gradient of text is gone, and all of it."""
    model, batch = tiny_model(), material.batch(1)
    config = stage2(mode="em_detach", anchor=AnchorWeights())
    good, _ = step(material.channel(model, config), model, batch)
    bad, gradient = step(
        material.channel(model, config, _anchor_without_gradient=True), model, batch
    )
    for name, term in good.terms.items():
        assert bad.terms[name].loss_sum.equal(term.loss_sum)
    assert bad.loss.equal(good.loss)
    alone = stage2(mode="em_detach", anchor=AnchorWeights(), text_ce=0.0)
    same(gradient, step(material.channel(model, alone), model, batch)[1], 1e-12)


def test_a_first_pass_that_lost_its_graph_is_refused(material, monkeypatch):
    """Whatever takes iteration 0's gradient away stops the step instead of letting it pass."""
    model, batch = tiny_model(tied=False), material.batch(1)
    channel = material.channel(model, stage2(mode="em_detach"))
    compute = Stage1Objective.compute

    def without(self, hidden_NH, head, *args, **rest):
        with torch.no_grad():
            return compute(self, hidden_NH, head, *args, **rest)

    monkeypatch.setattr(Stage1Objective, "compute", without)
    with pytest.raises(RuntimeError, match="A1/ have lost their gradient"):
        channel(model, batch, channel.divisors(channel.counts(batch)))


@pytest.mark.parametrize("decode", ["expectation", "straight_through"])
def test_one_iteration_is_stage_1(material, decode):
    """With n = 1 loss and gradients are those of the stage-1 objective of the same weights."""
    model, batch = tiny_model(), material.batch(1, 3, 5)
    config = stage2(iterations=1, anchor=AnchorWeights(), decode=decode)
    channel = material.channel(model, config)
    assert channel.value_names == ()
    objective = Stage1Objective(
        {"text_ce": 1.1, "gate": 0.9} | EVERY_TERM.by_name(),
        material.coord_ids,
        end_ids=material.end_ids,
        temperature=1.3,
        box=BoxLossConfig(decode=decode),
    )
    plain = TeacherForced(model, objective, autocast=nullcontext)
    (a, ours), (b, theirs) = step(channel, model, batch), step(plain, model, batch)
    assert float(a.loss.detach()) == pytest.approx(float(b.loss.detach()), rel=1e-12)
    same(ours, theirs, 1e-10)
    assert a.values == {}
    assert {name[3:] for name in a.terms} == set(b.terms)
    for name, term in a.terms.items():
        assert term.num_tokens == b.terms[name[3:]].num_tokens
        torch.testing.assert_close(term.loss_sum, b.terms[name[3:]].loss_sum)


def test_anchors_and_final_terms_of_one_iteration_add_up(material):
    """With n = 1 an anchor's term has the value of the final one: they stand on the same pass."""
    model, batch = tiny_model(), material.batch(1)
    computed, _ = step(material.channel(model, stage2(iterations=1)), model, batch)
    for name in ("soft_ce", "w1", "gate", "ciou"):
        assert computed.terms[f"A1/{name}"].loss_sum == computed.terms[f"A2/{name}"].loss_sum


@pytest.mark.parametrize("kind", ["expected", "gumbel_softmax"])
def test_a_window_is_the_same_however_it_is_cut(material, kind):
    """The loss and gradient of [a, b, c] are the sums of [a], [b, c] over the window's counts."""
    model, config = tiny_model(), stage2(kind)
    channel = material.channel(model, config, step=lambda: 5)
    whole, parts = (0, 1, 7), ((7, 0), (1,))
    counts = channel.counts(material.batch(*whole))
    added = [channel.counts(material.batch(*part)) for part in parts]
    assert counts == {name: sum(part[name] for part in added) for name in counts}
    together, ours = step(channel, model, material.batch(*whole), counts)
    cut = [step(channel, model, material.batch(*part), counts) for part in parts]
    loss = sum(float(computed.loss.detach()) for computed, _ in cut)
    assert float(together.loss.detach()) == pytest.approx(loss, rel=1e-9)
    same(ours, {name: sum(part[name] for _, part in cut) for name in ours}, 1e-6)
    off = [computed.values["context/off_manifold"] for computed, _ in cut]
    value = together.values["context/off_manifold"]
    assert value.num_tokens == sum(part.num_tokens for part in off) == 2 * 32
    assert float(value.loss_sum) == pytest.approx(sum(float(p.loss_sum) for p in off), rel=1e-9)


def test_noise_changes_with_step_and_seed(material):
    """Gumbel contexts of another step or seed are others; of the same step the same."""
    model, batch = tiny_model(), material.batch(1)
    config = stage2("gumbel_softmax")
    losses = []
    for seed, number in ((3, 0), (3, 0), (3, 1), (4, 0)):
        channel = material.channel(model, config, seed=seed, step=lambda number=number: number)
        losses.append(float(step(channel, model, batch)[0].loss.detach()))
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_samples_without_coordinates_go_through_all_passes(material):
    """Without slots there is no context, terms on slots count 0, and text learns as ever."""
    model = tiny_model()
    batch = material.batch(1)
    labels = batch["labels"].clone()
    labels[torch.isin(labels, material.coord_ids)] = -100
    batch |= {"labels": labels, "box_slots": batch["box_slots"][:0]}
    channel = material.channel(model, stage2("gumbel_softmax"))
    computed, ours = step(channel, model, batch)
    assert computed.values["context/off_manifold"].num_tokens == 0
    assert float(computed.values["context/off_manifold"].loss_sum) == 0
    for name, term in computed.terms.items():
        on_text = name in ("A1/text_ce", "A2/text_gate")
        assert (term.num_tokens > 0) == on_text == (float(term.loss_sum) != 0), name
    assert all(bool(g.isfinite().all()) for g in ours.values())
    only_text = material.channel(
        model, stage2(weights=NO_TERM, anchor=AnchorWeights(), coord_gate_weight=0.0)
    )
    same(step(only_text, model, batch)[1], _plain_text_gradient(material, model, batch, 1.1))


def test_a_filler_batch_teaches_nothing_and_stays_in_the_graph(material):
    """A batch without labels has loss 0, gradients of 0 everywhere, and nothing counted."""
    model, batch = tiny_model(), blanked(material.batch(1))
    channel = material.channel(model, stage2())
    computed, ours = step(channel, model, batch)
    assert set(channel.counts(batch).values()) == {0}
    assert float(computed.loss.detach()) == 0
    assert all(not g.any() for g in ours.values())
    assert all(p.grad is not None for p in model.parameters())


def test_terms_are_named_by_iteration(material):
    """Text and anchors are A1's, final terms A2's, the gate by its own weight; zeros are left out."""
    config = stage2(
        iterations=4, anchor=AnchorWeights(w1=1.0), weights=TermWeights(), coord_gate_weight=0.0
    )
    channel = material.channel(tiny_model(), config)
    assert channel.names == (
        "A1/text_ce",
        "A1/w1",
        "A2/soft_ce",
        "A2/w1",
        "A2/smooth_l1",
        "A2/ciou",
    )
    assert channel.weights["A1/text_ce"] == 1.1
    assert channel.diagnosed_at == ("A1/", "A2/")
    assert channel.value_names == ("context/off_manifold",)
    with pytest.raises(ConfigError, match="no term has a weight"):
        material.channel(
            tiny_model(),
            stage2(text_ce=0, weights=NO_TERM, anchor=AnchorWeights(), coord_gate_weight=0),
        )


def test_evaluation_takes_the_same_passes_without_a_graph(material):
    """Under no_grad, in evaluation mode, loss and terms are those of training."""
    model, batch = tiny_model(), material.batch(1)
    channel = material.channel(model, stage2())
    trained, _ = step(channel, model, batch)
    model.eval()
    with torch.no_grad():
        found = channel(model, batch, channel.divisors(channel.counts(batch)))
    assert not found.loss.requires_grad
    torch.testing.assert_close(found.loss, trained.loss.detach())
    for name, term in trained.terms.items():
        torch.testing.assert_close(found.terms[name].loss_sum, term.loss_sum)


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("anchor", [AnchorWeights(), AnchorWeights(w1=1.0)])
def test_every_taught_position_is_diagnosed_once_at_both_ends(material, iterations, anchor):
    """`coord_diag` of A1 and A2 covers all positions, also those that no term looks at."""
    model, batch = tiny_model(), material.batch(1, 3)
    config = stage2(iterations=iterations, anchor=anchor, weights=TermWeights())
    channel = material.channel(model, config, chunk=16)
    seen = []
    diagnosed = {at: [] for at in channel.diagnosed_at}
    channel(
        model,
        batch,
        channel.divisors(channel.counts(batch)),
        diagnosed=diagnosed,
        inspect=seen.append,
    )
    places = shifted(batch)
    assert [taught.at for taught in seen] == ["A1/", "A2/"]
    for taught in seen:
        assert set(taught.denominators) == set(taught.objective.denominator_names)
        targets = targets_from_labels(
            places.labels_N, material.coord_ids, places.kinds_N == DESCRIPTION
        )
        logits = (taught.hidden_NH @ taught.head.weight.T).detach()
        expected = totals_of(diagnose(logits.float(), targets, material.coord_ids))
        found = add_up(diagnosed[taught.at])
        assert found.sums == pytest.approx(expected.sums, rel=1e-4, abs=1e-4)
        assert sorted(found.abs_errors) == pytest.approx(sorted(expected.abs_errors), rel=1e-4)
