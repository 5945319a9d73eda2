"""Packed rows: first fit, the same rows for everyone, and samples that do not see each other."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_scenes import odd_dataset, tiny_checkpoint
from torch.nn import functional

from coordeval.engines.hf_loading import load_model, load_reader
from coordeval.errors import ConfigError
from coordeval.training.config import DataConfig
from coordeval.training.data.collator import model_inputs
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.packing import Packing, check_packing, pack_lengths, row_positions
from coordeval.training.data.positions import shifted

lengths_and_capacity = st.integers(1, 40).flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), max_size=30), st.just(capacity))
)


@given(lengths_and_capacity)
def test_rows_are_those_of_first_fit_decreasing(case):
    """The rows equal those of the plain quadratic algorithm; nothing is lost or overfull."""
    lengths, capacity = case
    expected, room = [], []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, left in enumerate(room) if left >= lengths[index]), None)
        if row is None:
            row = len(room)
            expected.append([])
            room.append(capacity)
        expected[row].append(index)
        room[row] -= lengths[index]
    assert pack_lengths(lengths, capacity) == expected


def test_a_sample_longer_than_a_row_is_refused():
    """The over-length policy comes first; here it is an invariant."""
    with pytest.raises(ValueError, match="does not fit"):
        pack_lengths([3, 9], 8)


@given(lengths_and_capacity, st.integers(-5, 5))
def test_every_epoch_packs_every_sample_once(case, seed):
    """All epochs have the same number of rows, each sample once, and no row too long."""
    lengths, capacity = case
    packing, again = (Packing(lengths, capacity, seed=seed) for _ in range(2))
    for epoch in (0, 3, 1):
        rows = [packing.row(number, epoch) for number in range(len(packing))]
        assert sorted(index for row in rows for index in row) == [*range(len(lengths))]
        assert all(sum(lengths[index] for index in row) <= capacity for row in rows)
        assert [again.row(number, epoch) for number in reversed(range(len(again)))] == rows[::-1]


def test_equal_samples_change_places_between_epochs():
    """Who stands with whom is drawn anew in each epoch."""
    packing = Packing([5] * 20, 10, seed=1)
    epochs = [{frozenset(packing.row(n, epoch)) for n in range(10)} for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small random checkpoint with two layers and deepstack."""
    return tiny_checkpoint(tmp_path_factory.mktemp("packed") / "checkpoint")


@pytest.fixture(scope="module")
def reader(checkpoint):
    """Its reader."""
    return load_reader(checkpoint)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Eight scenes of different sizes, packed."""
    path = odd_dataset(tmp_path_factory.mktemp("data"))
    return DataConfig(train=str(path), packing=True, max_length=420)


def _model(checkpoint, attention, dtype=torch.float32):
    return load_model(
        checkpoint, device=torch.device("cpu"), dtype=torch.float32, attention=attention
    ).to(dtype)


def _logits(model, batch):
    """Logits at taught positions, with their labels and the sample that each belongs to."""
    batch = dict(batch)
    batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
    hidden = model.model(**model_inputs(batch)).last_hidden_state.flatten(0, 1)
    places = shifted(batch)
    owners = batch["segment_ids"].flatten()[places.states_N]
    return model.lm_head(hidden[places.states_N]), places.labels_N, owners


@pytest.mark.parametrize(
    ("attention", "dtype", "tolerance"),
    [
        ("sdpa", torch.float32, 1e-5),
        ("eager", torch.float32, 1e-5),  # its softmax is float32 in any case
        ("sdpa", torch.float64, 1e-12),
    ],
)
def test_a_packed_sample_has_the_logits_that_it_has_alone(
    checkpoint, reader, config, attention, dtype, tolerance
):
    """Logits, losses and gradients of packed rows equal those of the samples one by one."""
    model = _model(checkpoint, attention, dtype)
    check_packing(model.config)
    packed = TrainDataset(config, reader)
    rows = [packed[number] for number in range(len(packed))]
    assert max(len(row) for row in rows) >= 3
    assert len({sum(len(e.input_ids) for e in row) for row in rows}) > 1  # some rows are padded
    logits, labels, owners = _logits(model, packed.collator()(rows))
    functional.cross_entropy(logits, labels, reduction="sum").backward()
    packed_gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    alone = TrainDataset(DataConfig(train=config.train), reader).collator()
    scale = float(logits.detach().abs().max())
    for number, example in enumerate(example for row in rows for example in row):
        own, own_labels, _ = _logits(model, alone([example]))
        theirs = logits[owners == number]
        assert own_labels.equal(labels[owners == number])
        assert (own - theirs).abs().max() <= tolerance * scale
        loss = functional.cross_entropy(own, own_labels, reduction="sum")
        packed_loss = functional.cross_entropy(theirs, own_labels, reduction="sum")
        assert torch.isclose(loss, packed_loss, rtol=tolerance, atol=0)
        loss.backward()
    own_gradients = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(own_gradients, packed_gradients, strict=True):
        assert (one - other).norm() <= 10 * tolerance * (one.norm() + 1)


def test_packed_samples_would_see_each_other_without_borders(checkpoint, reader, config):
    """The comparison above can fail: with one running position the logits do change."""
    model = _model(checkpoint, "sdpa")
    packed = TrainDataset(config, reader)
    batch = packed.collator()([max((packed[n] for n in range(len(packed))), key=len)])
    with torch.no_grad():
        logits, _, owners = _logits(model, batch)
        length = batch["input_ids"].shape[1]
        batch["position_ids"][0] = torch.arange(length)
        leaked, _, _ = _logits(model, batch)
    assert torch.allclose(logits[owners == 0], leaked[owners == 0], atol=1e-3)
    assert (logits - leaked)[owners == 1].abs().max() > 0.1


def test_positions_are_those_of_the_model_itself(checkpoint, reader, config):
    """Time, height and width positions of each sample equal the model's own."""
    model = _model(checkpoint, "sdpa")
    alone = TrainDataset(DataConfig(train=config.train), reader)
    for number in range(len(alone)):
        example = alone[number]
        batch = alone.collator()([example])
        expected, _ = model.model.get_rope_index(
            batch["input_ids"],
            mm_token_type_ids=batch["mm_token_type_ids"],
            image_grid_thw=batch["image_grid_thw"],
        )
        mine = row_positions(
            [[(example.input_ids, example.grid_thw)]],
            length=len(example.input_ids),
            image_token_id=reader.image_token_id,
            merge=2,
        )
        assert mine[1:].equal(expected)
        assert mine[0, 0].equal(torch.arange(len(example.input_ids)))


def test_attention_that_mixes_samples_is_refused(checkpoint):
    """Flash attention and unknown models are refused by name."""
    config = _model(checkpoint, "sdpa").config
    config.get_text_config()._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match=r"flash_attention_2.*sdpa or eager"):
        check_packing(config)
    config.model_type = "qwen2_vl"
    with pytest.raises(ConfigError, match="qwen2_vl"):
        check_packing(config)


def test_a_packed_dataset_counts_rows_and_keeps_its_samples(reader, config):
    """Its length is the number of rows; each epoch holds every sample once, shuffled or not."""
    packed = TrainDataset(config, reader)
    shuffled = TrainDataset(
        DataConfig(train=config.train, packing=True, max_length=420, order="random"), reader
    )
    for dataset in (packed, shuffled):
        for epoch in (0, 1):
            dataset.set_epoch(epoch)
            rows = [dataset[number] for number in range(len(dataset))]
            ids = Counter(example.sample_id for row in rows for example in row)
            assert ids == Counter(sample.id for sample in dataset.samples)
            assert all(sum(len(e.input_ids) for e in row) <= 420 for row in rows)
        assert len(dataset) < len(dataset.samples)
