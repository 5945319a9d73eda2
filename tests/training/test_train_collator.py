"""Batches: padding, labels, box slots, and the one place where labels are shifted."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_scenes import odd_dataset, tiny_reader

from coordeval.coords import CoordVocabulary
from coordeval.errors import DataError
from coordeval.training.config import DataConfig
from coordeval.training.data.collator import TrainCollator, model_inputs
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.labels import COORDINATE, IGNORE, IGNORE_LABEL
from coordeval.training.data.positions import shifted
from coordeval.training.data.skips import SkipLedger, Skipped


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The reader of a small random checkpoint."""
    return tiny_reader(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def trained(reader, tmp_path_factory):
    """Eight scenes of different sizes with 0 to 4 boxes."""
    path = odd_dataset(tmp_path_factory.mktemp("data"))
    return TrainDataset(DataConfig(train=str(path)), reader)


@pytest.fixture(scope="module")
def packed(trained):
    """The same scenes, several in a row."""
    config = DataConfig(train=str(trained.dataset.path), packing=True, max_length=400)
    return TrainDataset(config, trained._reader)


def test_rows_are_padded_on_the_right_and_taught_nowhere_else(reader, trained):
    """Every row starts with its example; behind it stands padding that nothing looks at."""
    examples = [trained[number] for number in (3, 0, 4)]
    batch = trained.collator()(examples)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        assert batch["input_ids"][row, :length].equal(example.input_ids)
        assert batch["labels"][row, :length].equal(example.labels)
        assert batch["token_kinds"][row, :length].equal(example.token_kinds)
        assert (batch["input_ids"][row, length:] == reader.pad_id).all()
        assert (batch["labels"][row, length:] == IGNORE_LABEL).all()
        assert (batch["token_kinds"][row, length:] == IGNORE).all()
        assert batch["attention_mask"][row].sum() == length
        assert (batch["segment_ids"][row] == row).sum() == length
        is_image = batch["input_ids"][row] == reader.image_token_id
        assert (batch["mm_token_type_ids"][row] == is_image).all()
    assert batch["sample_ids"] == ["s3", "s0", "s4"]
    patches = batch["image_grid_thw"].prod(1).tolist()
    for part, example in zip(batch["pixel_values"].split(patches), examples, strict=True):
        assert part.equal(example.pixel_values)
    assert batch["token_kinds"].dtype == torch.uint8


@pytest.mark.parametrize("kind", ["trained", "packed"])
def test_box_slots_point_at_the_four_coordinates_of_each_box(request, reader, kind):
    """Slots give the bins of every box in writing order, in batches and in packed rows."""
    dataset = request.getfixturevalue(kind)
    items = [dataset[number] for number in range(len(dataset))]
    batch = dataset.collator()(items)
    ids = batch["labels"].flatten()[batch["box_slots"]]
    found = CoordVocabulary.from_tokenizer(reader.tokenizer).bins_of(ids.flatten()).reshape(-1, 4)
    expected = []
    for name in batch["sample_ids"]:
        number = [sample.id for sample in dataset.samples].index(name)
        parts = dataset.answer_text(number).split('"bbox_2d": [')[1:]
        for part in parts:
            tokens = part.split("]")[0].split(", ")
            expected.append([int(token[8:-2]) for token in tokens])
    assert found.tolist() == expected
    assert len(expected) == dataset.report.boxes


@pytest.mark.parametrize("kind", ["trained", "packed"])
def test_shifted_states_stand_one_before_their_labels(request, kind):
    """In each sample state i - 1 predicts label i; boxes index the taught positions."""
    dataset = request.getfixturevalue(kind)
    batch = dataset.collator()([dataset[number] for number in range(len(dataset))])
    places = shifted(batch)
    length = batch["labels"].shape[1]
    expected = [
        (row * length + column - 1, batch["labels"][row, column], batch["token_kinds"][row, column])
        for row in range(len(batch["labels"]))
        for column in range(length)
        if batch["labels"][row, column] != IGNORE_LABEL
    ]
    assert places.states_N.tolist() == [state for state, _, _ in expected]
    assert places.labels_N.tolist() == [int(label) for _, label, _ in expected]
    assert places.kinds_N.tolist() == [int(kind) for _, _, kind in expected]
    segments = batch["segment_ids"].flatten()
    assert segments[places.states_N].equal(segments[places.states_N + 1])
    assert (places.kinds_N[places.boxes_M4] == COORDINATE).all()
    slots = batch["labels"].flatten()[batch["box_slots"]]
    assert places.labels_N[places.boxes_M4].equal(slots)


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_shifting_follows_any_pattern_of_labels(pattern):
    """Indices agree with a plain loop over rows and columns, also where nothing is taught."""
    taught = torch.tensor(pattern)
    taught[:, 0] = False
    labels = torch.where(taught, torch.arange(taught.numel()).reshape(taught.shape), IGNORE_LABEL)
    batch = {
        "labels": labels,
        "token_kinds": taught.to(torch.uint8),
        "box_slots": torch.empty((0, 4), dtype=torch.long),
    }
    places = shifted(batch)
    expected = [r * 5 + c for r in range(len(pattern)) for c in range(5) if taught[r, c]]
    assert (places.states_N + 1).tolist() == places.labels_N.tolist() == expected
    assert places.boxes_M4.shape == (0, 4)


def test_labels_without_a_state_are_refused():
    """A label in the first column, and a box slot that is not taught, are faults of the caller."""
    labels = torch.tensor([[1, 2, IGNORE_LABEL, 4]])
    none = torch.empty((0, 4), dtype=torch.long)
    kinds = torch.zeros_like(labels)
    with pytest.raises(ValueError, match="first column"):
        shifted({"labels": labels, "token_kinds": kinds, "box_slots": none})
    labels[0, 0] = IGNORE_LABEL
    slots = torch.tensor([[1, 2, 3, 3]])
    with pytest.raises(ValueError, match="box slot"):
        shifted({"labels": labels, "token_kinds": kinds, "box_slots": slots})


def test_the_same_items_give_the_same_batch(trained):
    """Nothing in a batch depends on when or where it is put together."""
    collator = trained.collator()
    first, second = (collator([trained[1], trained[2]]) for _ in range(2))
    for key, value in first.items():
        same = torch.equal(value, second[key]) if torch.is_tensor(value) else value == second[key]
        assert same, key


def test_a_batch_of_nothing_is_refused(reader, trained):
    """No items is the caller's fault; nothing readable without a filler is the data's."""
    with pytest.raises(ValueError, match="at least one"):
        trained.collator()([])
    with pytest.raises(DataError, match="gone"):
        TrainCollator(reader)([Skipped("a", "gone")])


@pytest.mark.parametrize("kind", ["trained", "packed"])
def test_where_nothing_can_be_read_a_filler_teaches_nothing(request, kind):
    """A batch without a readable sample still has a row, with no label and no sample id."""
    collator = request.getfixturevalue(kind).collator()
    lost = [Skipped("a", "gone"), Skipped("b", "gone")]
    batch = collator([lost] if kind == "packed" else lost)
    assert batch["skipped"] == lost
    assert batch["sample_ids"] == []
    assert len(batch["input_ids"]) == len(batch["image_grid_thw"]) == 1
    assert shifted(batch).labels_N.numel() == 0
    assert (batch["segment_ids"] == -1).all()


def test_a_skipped_sample_leaves_its_row_to_the_others(packed):
    """In a packed row the others close up."""
    row = max((packed[number] for number in range(len(packed))), key=len)
    whole = packed.collator()([row])
    rest = packed.collator()([[Skipped("lost", "gone"), *row[1:]]])
    assert rest["sample_ids"] == whole["sample_ids"][1:]
    cut = len(row[0].input_ids)
    assert rest["input_ids"].equal(whole["input_ids"][:, cut:])
    assert rest["position_ids"].equal(whole["position_ids"][:, :, cut:])


def test_model_inputs_hold_what_the_model_reads(trained, packed):
    """A packed batch has positions and no mask, any other a mask and no positions; no cache."""
    shared = {"input_ids", "mm_token_type_ids", "pixel_values", "image_grid_thw", "use_cache"}
    plain = model_inputs(trained.collator()([trained[0]]))
    assert plain.keys() == shared | {"attention_mask"}
    assert plain["use_cache"] is False
    assert model_inputs(packed.collator()([packed[0]])).keys() == shared | {"position_ids"}


def test_the_ledger_counts_and_stops():
    """Different samples count against the limit once; the message names them."""
    ledger = SkipLedger(2)
    assert ledger.add({"skipped": [Skipped("a", "gone"), Skipped("b", "cut short")]}) != []
    ledger.add({"skipped": [Skipped("a", "gone")]})
    ledger.add({})
    assert (ledger.ids, ledger.total) == (["a", "b"], 3)
    with pytest.raises(DataError, match=r"3 samples.*max_unreadable \(2\).*'a': gone"):
        ledger.add({"skipped": [Skipped("c", "gone")]})
