"""Weights of tokens and unlikely tokens on their way from examples through batches to a loss."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_scenes import odd_dataset, tiny_checkpoint
from torch.nn import functional

from coordeval.coords import CoordVocabulary
from coordeval.engines.hf_loading import load_model, load_reader
from coordeval.training.config import DataConfig
from coordeval.training.data.batches import PlacedCollator, blanked
from coordeval.training.data.collator import model_inputs
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.labels import IGNORE_LABEL
from coordeval.training.data.positions import shifted
from coordeval.training.data.skips import Skipped
from coordeval.training.loop.forward import ObjectiveForward
from coordeval.training.losses import Stage1Objective

KEYS = {"token_weights", "unlikely"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small random checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("weighted") / "checkpoint")


@pytest.fixture(scope="module")
def reader(checkpoint):
    """Its reader."""
    return load_reader(checkpoint)


@pytest.fixture(scope="module")
def datasets(reader, tmp_path_factory):
    """Eight scenes of different sizes, one by one and several in a row."""
    path = str(odd_dataset(tmp_path_factory.mktemp("data")))
    packing = DataConfig(train=path, packing=True, max_length=400)
    return {
        "single": TrainDataset(DataConfig(train=path), reader),
        "packed": TrainDataset(packing, reader),
    }


def _dressed(example, number):
    """The example with recognisable weights and unlikely tokens; every third without either."""
    if number % 3 == 2:
        return example
    length = len(example.input_ids)
    weights = torch.arange(length) / 8 + 1000.0 * number
    columns = torch.tensor([1, length // 2, length - 1, length - 1])
    unlikely = torch.stack([columns, 100 * number + torch.arange(4)], dim=1)
    return example._replace(token_weights=weights, unlikely=unlikely)


def _batch(datasets, kind):
    """(Batch, dressed examples in reading order with their row and first column)."""
    dataset = datasets[kind]
    items, placed, number = [], [], 0
    for row in range(len(dataset)):
        item = dataset[row]
        dressed, column = [], 0
        for example in item if kind == "packed" else [item]:
            dressed.append(_dressed(example, number))
            placed.append((dressed[-1], row, column))
            number, column = number + 1, column + len(example.input_ids)
        items.append(dressed if kind == "packed" else dressed[0])
    return dataset.collator()(items), placed


@pytest.mark.parametrize("kind", ["single", "packed"])
def test_every_token_keeps_its_weight_and_its_unlikely_ones(datasets, kind):
    """Each example's part of its row has its weights, 1 where it has none; padding has 0."""
    batch, placed = _batch(datasets, kind)
    weights, unlikely = batch["token_weights"], batch["unlikely"]
    assert weights.shape == batch["labels"].shape
    assert (weights.dtype, unlikely.dtype) == (torch.float32, torch.long)
    expected = []
    for example, row, start in placed:
        own = weights[row, start : start + len(example.input_ids)]
        if example.token_weights is None:
            assert (own == 1).all()
            continue
        assert own.equal(example.token_weights)
        flat = row * weights.shape[1] + start
        expected += [[flat + column, token] for column, token in example.unlikely.tolist()]
    assert unlikely.tolist() == expected
    taken = batch["segment_ids"] >= 0
    assert (weights[~taken] == 0).all()
    assert (~taken).any()


@pytest.mark.parametrize("kind", ["single", "packed"])
def test_shifted_positions_carry_them_on(datasets, kind):
    """States, labels and boxes are found again; untaught unlikely positions join with -100."""
    batch, placed = _batch(datasets, kind)
    places = shifted(batch)
    labels, flat = batch["labels"].flatten(), places.states_N + 1
    assert flat.equal(torch.unique(flat))
    assert labels[flat].equal(places.labels_N)
    assert batch["token_weights"].flatten()[flat].equal(places.weights_N)
    assert (labels != IGNORE_LABEL).sum() == (places.labels_N != IGNORE_LABEL).sum()
    untaught = sum(
        int((example.labels[torch.unique(example.unlikely[:, 0])] == IGNORE_LABEL).sum())
        for example, *_ in placed
        if example.unlikely is not None
    )
    assert untaught > 0
    assert (places.labels_N == IGNORE_LABEL).sum() == untaught
    assert flat[places.unlikely_U2[:, 0]].equal(batch["unlikely"][:, 0])
    assert places.unlikely_U2[:, 1].equal(batch["unlikely"][:, 1])
    assert flat[places.boxes_M4].equal(batch["box_slots"])
    segments = batch["segment_ids"].flatten()
    assert segments[places.states_N].equal(segments[flat])


@pytest.mark.parametrize("kind", ["single", "packed"])
def test_batches_without_any_are_what_they_were(datasets, kind):
    """No key is added; an empty list of unlikely tokens is one, and changes no position."""
    dataset = datasets[kind]
    item = dataset[0]
    plain = dataset.collator()([item])
    assert not KEYS & plain.keys()
    places = shifted(plain)
    assert places.weights_N is None
    assert places.unlikely_U2 is None
    none = torch.empty((0, 2))
    bare = [e._replace(unlikely=none) for e in (item if kind == "packed" else [item])]
    batch = dataset.collator()([bare])
    assert KEYS & batch.keys() == {"unlikely"}
    assert (batch["unlikely"].shape, batch["unlikely"].dtype) == ((0, 2), torch.long)
    for one, other in zip(places[:4], shifted(batch)[:4], strict=True):
        assert one.equal(other)


def test_fillers_and_blanked_batches_push_nothing(datasets):
    """A batch that only keeps a process busy has no weight, no unlikely token, no position."""
    batch, placed = _batch(datasets, "single")
    for cleared in (
        blanked(batch),
        PlacedCollator(datasets["single"].collator())([(placed[0][0], True)]),
    ):
        assert not KEYS & cleared.keys()
        assert shifted(cleared).states_N.numel() == 0
    assert batch.keys() >= KEYS
    lost = datasets["single"].collator()([Skipped("a", "gone")])
    assert not KEYS & lost.keys()


def test_a_lost_example_moves_nothing_of_the_others(datasets):
    """In a packed row the others close up, with their weights and unlikely tokens."""
    dataset = datasets["packed"]
    row = max((dataset[number] for number in range(len(dataset))), key=len)
    dressed = [_dressed(example, number) for number, example in enumerate(row)]
    cut = len(dressed[0].input_ids)
    whole = dataset.collator()([dressed])
    rest = dataset.collator()([[Skipped("lost", "gone"), *dressed[1:]]])
    assert rest["token_weights"].equal(whole["token_weights"][:, cut:])
    gone = len(dressed[0].unlikely)
    assert (rest["unlikely"][:, 0] + cut).equal(whole["unlikely"][gone:, 0])
    assert rest["unlikely"][:, 1].equal(whole["unlikely"][gone:, 1])


def test_what_does_not_fit_an_example_is_refused(datasets):
    """Weights of another length; unlikely tokens in the first column or outside the example."""
    example = datasets["single"][0]
    length = len(example.input_ids)
    collate = datasets["single"].collator()
    with pytest.raises(ValueError, match="token weights"):
        collate([example._replace(token_weights=torch.ones(length - 1))])
    for column in (-1, 0, length):
        with pytest.raises(ValueError, match="unlikely token"):
            collate([example._replace(unlikely=torch.tensor([[column, 5]]))])
    batch = collate([_dressed(example, 0)])
    with pytest.raises(ValueError, match="first column"):
        shifted(batch | {"unlikely": torch.tensor([[0, 5]])})


@given(
    pattern=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4),
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 9)), max_size=6),
)
def test_places_agree_with_a_plain_loop(pattern, pairs):
    """For any labels and unlikely tokens, positions repeated or not, taught or not."""
    taught = torch.tensor(pattern)
    taught[:, 0] = False
    rows = len(pattern)
    labels = torch.where(taught, torch.arange(taught.numel()).reshape(taught.shape), IGNORE_LABEL)
    flat = [[(row % rows) * 5 + column, token] for row, column, token in pairs]
    weights = torch.rand(taught.shape)
    batch = {
        "labels": labels,
        "token_kinds": taught.to(torch.uint8),
        "box_slots": torch.empty((0, 4), dtype=torch.long),
        "token_weights": weights,
        "unlikely": torch.tensor(flat, dtype=torch.long).reshape(-1, 2),
    }
    places = shifted(batch)
    expected = sorted({*torch.nonzero(taught.flatten())[:, 0].tolist(), *(p for p, _ in flat)})
    assert (places.states_N + 1).tolist() == expected
    assert places.labels_N.tolist() == labels.flatten()[expected].tolist()
    assert places.weights_N.tolist() == weights.flatten()[expected].tolist()
    assert places.unlikely_U2.tolist() == [[expected.index(p), token] for p, token in flat]


@pytest.mark.parametrize("kind", ["single", "packed"])
def test_a_model_learns_from_them_what_the_formulas_say(datasets, checkpoint, kind):
    """Loss and gradients through a model equal those of all its logits at once, in float64."""
    batch, _ = _batch(datasets, kind)
    cpu = torch.device("cpu")
    model = load_model(checkpoint, device=cpu, dtype=torch.float32, attention="sdpa").double()
    batch["pixel_values"] = batch["pixel_values"].double()
    batch["token_weights"] = (batch["token_weights"] % 5 - 1).clamp(min=0)
    tokenizer = datasets["single"]._reader.tokenizer
    coord_ids = torch.tensor(CoordVocabulary.from_tokenizer(tokenizer).token_ids)
    ours = Stage1Objective({"text_ce": 1.0, "unlikelihood": 0.7}, coord_ids, chunk=50)
    counts = ours.counts(
        batch["labels"],
        batch["box_slots"],
        text_weights_N=batch["token_weights"],
        unlikely_U2=batch["unlikely"],
    )
    forward = ObjectiveForward(model, ours, autocast=nullcontext)
    loss = forward(model, batch, counts).loss
    loss.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()

    logits = model(**model_inputs(batch)).logits.flatten(0, 1)
    labels, weights = batch["labels"].flatten(), batch["token_weights"].flatten()
    is_text = (labels != IGNORE_LABEL) & ~torch.isin(labels, coord_ids)
    (text,) = torch.nonzero(is_text, as_tuple=True)
    ce = functional.cross_entropy(logits[text - 1], labels[text], reduction="none")
    places, tokens = batch["unlikely"].unbind(1)
    p = torch.softmax(logits[places - 1], 1).gather(1, tokens[:, None])
    expected = (ce * weights[text]).sum() / weights[text].sum() - 0.7 * torch.log1p(-p).mean()
    expected.backward()
    assert 0 < int((weights[text] == 0).sum()) < len(text)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    others = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(gradients, others, strict=True):
        assert (one - other).norm() <= 1e-9 * (other.norm() + 1e-6)
