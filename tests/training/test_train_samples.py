"""Training data: prompts as rollouts read them, honest lengths, and everything counted."""

import json
from dataclasses import replace

import pytest
import torch
from odd_scenes import SIZES, odd_dataset, scene, tiny_checkpoint, tiny_reader, write_dataset
from torch.utils.data import DataLoader

from coordeval.coords import FRAMES
from coordeval.data.canonical import sample_text
from coordeval.data.dataset import open_dataset
from coordeval.data.pixels import parse_pixels
from coordeval.data.prompt_choice import choose_prompt
from coordeval.engines.base import DecodeSettings, Request
from coordeval.engines.hf import HfEngine
from coordeval.engines.hf_loading import load_reader
from coordeval.errors import CheckpointError, ConfigError, DataError
from coordeval.parsers.dialects import dialect_named
from coordeval.training.config import DataConfig
from coordeval.training.data.dataset import TrainDataset
from coordeval.training.data.labels import END, IGNORE_LABEL
from coordeval.training.data.skips import Skipped
from coordeval.training.tiny.model import write_random_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that the tests of this module share."""
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
def reader(folder):
    """The reader of a small random checkpoint."""
    return tiny_reader(folder / "checkpoint")


@pytest.fixture(scope="module")
def data(folder):
    """Eight noise images of very different sizes, with 0 to 4 boxes."""
    return odd_dataset(folder / "data")


def _config(path, **changes):
    return DataConfig(train=str(path), **changes)


def _coco(folder):
    """The same scenes as a COCO file with a class list."""
    records = [scene(index, index % 5) for index in range(8)]
    names = sorted({obj["desc"] for record in records for obj in record["objects"]})
    document = {
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(names)],
        "images": [
            {"id": n, "file_name": r["image"], "width": r["width"], "height": r["height"]}
            for n, r in enumerate(records)
        ],
        "annotations": [],
    }
    for number, record in enumerate(records):
        for obj in record["objects"]:
            x1, y1, x2, y2 = obj["bbox_2d"]
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": names.index(obj["desc"]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    path = folder / "instances.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("pixels", [None, "none", "2000:6000"])
@pytest.mark.parametrize("prompt", ["open", "closed", "own"])
def test_prompts_are_those_of_rollouts(folder, reader, data, pixels, prompt):
    """Ids, patches and grids before the answer equal what the HF engine feeds its model."""
    path = _coco(data.parent) if prompt == "closed" else data
    if prompt == "own":
        own = folder / "own.toml"
        own.write_text('system = "Look."\nuser = "Find all"\norder = "text_image"\n')
        prompt = str(own)
    dialect = dialect_named("coordjson-quoted", field_order="geometry_first")
    dataset = open_dataset(path)
    engine = HfEngine(
        reader=reader,
        load=lambda: None,
        prompt=choose_prompt(prompt, dialect, dataset.categories),
        decode=DecodeSettings(max_new_tokens=8),
        dtype="fp32",
        dialect=dialect,
        pixels=parse_pixels(pixels),
    )
    config = _config(
        path, prompt=prompt, pixels=pixels, dialect=dialect.name, field_order="geometry_first"
    )
    trained = TrainDataset(config, reader)
    for number, sample in enumerate(dataset):
        expected = engine._encode(Request(sample=sample, sample_index=0, seed=0))
        example = trained.item(number)
        untaught = example.input_ids[example.labels == IGNORE_LABEL]
        assert untaught.tolist() == expected.prompt_ids
        assert example.input_ids[: len(untaught)].tolist() == expected.prompt_ids
        assert torch.equal(example.pixel_values, expected.pixel_values)
        assert torch.equal(example.grid_thw, expected.grid_thw)


def test_the_readers_image_processor_is_left_alone(reader, data):
    """Pixel limits are set on a copy, whatever other reads share the processor."""
    before = dict(reader.image_processor.size)
    TrainDataset(_config(data, pixels="100:200"), reader)
    assert dict(reader.image_processor.size) == before


@pytest.mark.parametrize("dialect_name", ["coordjson", "object-map", "coordjson-pixels"])
def test_labels_are_the_canonical_answer_and_its_end(reader, data, dialect_name):
    """Decoded labels give the evaluator's own answer text, closed by one end token."""
    dialect = dialect_named(dialect_name, field_order="geometry_first")
    config = _config(data, dialect=dialect_name, field_order="geometry_first")
    trained = TrainDataset(config, reader)
    for number, sample in enumerate(open_dataset(data)):
        example = trained.item(number)
        taught = example.labels[example.labels != IGNORE_LABEL].tolist()
        text = sample_text(sample, dialect=dialect, frame=FRAMES["coordexp"], order="sorted")
        assert reader.tokenizer.decode(taught[:-1]) == text
        assert taught[-1] == reader.end_id
        assert example.token_kinds[-1] == END
        assert torch.equal(example.token_kinds > 0, example.labels != IGNORE_LABEL)


@pytest.mark.parametrize("field_order", ["desc_first", "geometry_first"])
@pytest.mark.parametrize("order", ["sorted", "random"])
@pytest.mark.parametrize("pixels", [None, "none", "500:3000"])
def test_lengths_are_those_of_the_encoded_samples(reader, data, order, field_order, pixels):
    """Lengths told without opening images equal the real ones; a random order never exceeds."""
    config = _config(data, order=order, field_order=field_order, pixels=pixels)
    trained = TrainDataset(config, reader)
    real = []
    for epoch in range(6):
        trained.set_epoch(epoch)
        real.append([len(trained.item(n).input_ids) for n in range(len(trained))])
    most = [max(column) for column in zip(*real, strict=True)]
    assert all(a <= b for a, b in zip(most, trained.lengths.tolist(), strict=True))
    if order == "sorted" or field_order == "desc_first":
        assert real == [trained.lengths.tolist()] * 6
    assert trained.report.longest == max(trained.lengths)
    assert len({record.width for record in trained.samples}) == len(SIZES)


def _texts(trained, workers, epochs, *, persistent=False):
    """Decoded labels per epoch through a data loader, by id."""
    options = {"multiprocessing_context": "fork"} if workers else {}
    loader = DataLoader(
        trained,
        batch_size=3,
        num_workers=workers,
        collate_fn=trained.collator(),
        persistent_workers=persistent,
        **options,
    )
    out = []
    for epoch in epochs:
        trained.set_epoch(epoch)
        texts = {}
        for batch in loader:
            for name, row in zip(batch["sample_ids"], batch["labels"], strict=True):
                texts[name] = tuple(row[row != IGNORE_LABEL].tolist())
        out.append(texts)
    return out


def test_random_order_depends_on_seed_epoch_and_id_alone(reader, data):
    """Epochs differ; they are the same again with workers, also with ones that live on."""
    config = _config(data, order="random")
    alone = _texts(TrainDataset(config, reader, seed=5), 0, [0, 1, 2])
    assert alone[0] != alone[1] != alone[2] != alone[0]
    assert alone[0].keys() == alone[1].keys()
    assert _texts(TrainDataset(config, reader, seed=5), 2, [0, 1, 2], persistent=True) == alone
    assert _texts(TrainDataset(config, reader, seed=5), 1, [2, 1]) == [alone[2], alone[1]]
    other = _texts(TrainDataset(config, reader, seed=6), 0, [0, 1])
    assert not any(texts in alone for texts in other)
    fewer = TrainDataset(replace(config, limit=5), reader, seed=5)
    assert _texts(fewer, 0, [1])[0].items() <= alone[1].items()


def test_evaluation_data_are_the_same_in_every_epoch(reader, data):
    """Data loaders count up their own epochs; answers of the evaluation data do not follow."""
    config = _config(data, order="random", eval=str(data), eval_limit=4)
    trained = TrainDataset(config, reader, split="eval")
    first, second = _texts(trained, 0, [0, 1])
    assert first == second
    assert len(first) == 4


def test_crowd_and_degenerate_objects_are_left_out_and_counted(reader, folder):
    """The answer holds what can be taught; the report says what it lacks."""
    record = scene(0, 2)
    flat = [{"desc": "flat", "bbox_2d": [5, 5, 5, 9]}, {"desc": "dot", "line": [3, 3, 3, 3]}]
    crowd = {"desc": "crowd", "bbox_2d": [1, 1, 30, 30], "iscrowd": 1}
    only_flat = scene(1, 0) | {"objects": flat[:1]}
    record["objects"] = [flat[0], *record["objects"], crowd, flat[1]]
    trained = TrainDataset(_config(write_dataset(folder / "flat", [record, only_flat])), reader)
    assert "flat" not in trained.answer_text(0)
    assert "dot" not in trained.answer_text(0)
    assert "crowd" not in trained.answer_text(0)
    assert trained.answer_text(1) == '{"objects": []}'
    report = trained.report
    assert (report.objects, report.degenerate_objects, report.crowd_objects) == (2, 3, 1)
    assert (report.boxes, report.coordinates, report.emptied_samples) == (2, 8, 1)
    assert len(report.notes()) == 3


def test_a_dataset_of_degenerate_boxes_is_refused(reader, folder):
    """Boxes given as x, y, width, height turn out inverted: nothing can be taught from them."""
    record = scene(0, 0) | {"objects": [{"desc": "a", "bbox_2d": [40, 40, 10, 10]}] * 3}
    path = write_dataset(folder / "degenerate", [record])
    with pytest.raises(DataError, match="all 3 objects are degenerate"):
        TrainDataset(_config(path), reader)


def test_data_without_a_coordinate_is_refused_where_one_is_needed(reader, folder):
    """Empty scenes can be trained on with text cross-entropy alone."""
    config = _config(write_dataset(folder / "empty", [scene(0, 0), scene(1, 0)]))
    assert TrainDataset(config, reader).report.coordinates == 0
    with pytest.raises(DataError, match="no answer holds a coordinate"):
        TrainDataset(config, reader, needs_coordinates=True)
    integers = replace(config, dialect="coordjson-bins")
    with pytest.raises(ConfigError, match="integers"):
        TrainDataset(integers, reader, needs_coordinates=True)


def test_a_tokenizer_without_coordinate_tokens_is_refused(folder, data):
    """The message names the command that adds them; integers need none."""
    path = write_random_checkpoint(folder / "plain", coordinates=False)
    plain = load_reader(replace(tiny_checkpoint(folder / "other"), path=path))
    with pytest.raises(CheckpointError, match="coordeval vocab expand"):
        TrainDataset(_config(data), plain)
    trained = TrainDataset(_config(data, dialect="coordjson-bins"), plain)
    assert trained.report.coordinates == trained.report.boxes == 0


def test_over_long_samples_are_refused_by_name(reader, data):
    """Id, length and limit stand in the message; no image is opened to say so."""
    full = TrainDataset(_config(data), reader)
    longest = int(full.lengths.argmax())
    limit = int(full.lengths[longest]) - 1
    name, length = full.samples[longest].id, full.lengths[longest]
    with pytest.raises(DataError, match=rf"max_length {limit} tokens.*'{name}' \({length}\)"):
        TrainDataset(_config(data, max_length=limit), reader)
    assert len(TrainDataset(_config(data, max_length=limit + 1), reader)) == len(full)


def test_over_long_samples_are_dropped_whole(reader, data):
    """`drop` keeps the others as they are, counts, and never cuts an answer."""
    full = TrainDataset(_config(data), reader)
    limit = int(sorted(full.lengths)[4])
    some = TrainDataset(_config(data, max_length=limit, over_length="drop"), reader)
    gone = [s.id for s, n in zip(full.samples, full.lengths, strict=True) if n > limit]
    assert some.report.over_long_ids == tuple(gone)
    assert some.report.samples_used + some.report.over_long == some.report.samples_read == 8
    for number in range(len(some)):
        example = some.item(number)
        assert len(example.input_ids) <= limit
        assert example.labels[-1] == reader.end_id
    with pytest.raises(DataError, match="no sample is left: 8 are longer"):
        TrainDataset(_config(data, max_length=5, over_length="drop"), reader)


def test_an_image_too_narrow_for_the_patch_grid_is_left_out(reader, folder):
    """Its id is in the report; the others are used."""
    narrow = scene(0, 0) | {"id": "thin", "image": "thin.png", "width": 1, "height": 300}
    path = write_dataset(folder / "thin", [scene(1, 2), narrow])
    trained = TrainDataset(_config(path), reader)
    assert trained.report.unfit_image_ids == ("thin",)
    assert len(trained) == 1


def test_unreadable_images_are_skipped_with_their_reason(reader, folder):
    """Missing, broken and wrongly sized images cost themselves alone."""
    path = odd_dataset(folder / "broken")
    (path.parent / "1.png").unlink()
    (path.parent / "2.png").write_bytes((path.parent / "2.png").read_bytes()[:80])
    (path.parent / "3.png").write_bytes((path.parent / "0.png").read_bytes())
    trained = TrainDataset(_config(path), reader)
    items = [trained[number] for number in range(8)]
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert [item.id for item in skipped] == ["s1", "s2", "s3"]
    assert ["no such image" in skipped[0].reason, "cannot be" in skipped[1].reason] == [True] * 2
    assert "the dataset says 16x16" in skipped[2].reason
    batch = trained.collator()(items)
    assert batch["sample_ids"] == ["s0", "s4", "s5", "s6", "s7"]
    assert batch["skipped"] == skipped


def test_a_wrong_image_root_is_refused_at_once(reader, folder):
    """Where no image at all is there, the settings are wrong, not the images."""
    path = write_dataset(folder / "rootless", [scene(0, 1), scene(1, 1)], images=False)
    with pytest.raises(DataError, match=r"none of its images is there.*data\.image_root"):
        TrainDataset(_config(path), reader)


def test_a_name_that_no_file_can_have_costs_only_its_sample(reader, folder):
    """An image whose name is too long for the file system is skipped like any missing one."""
    path = write_dataset(folder / "long-name", [scene(k, 1) for k in range(3)])
    first, *others = path.read_text(encoding="utf-8").splitlines()
    long = json.dumps(json.loads(first) | {"image": "x" * 300 + ".png"})
    path.write_text("\n".join([long, *others]) + "\n", encoding="utf-8")
    trained = TrainDataset(_config(path), reader)
    assert [isinstance(trained[number], Skipped) for number in range(3)] == [True, False, False]


@pytest.mark.parametrize("count", [1, 3])
def test_data_without_one_readable_image_is_refused(reader, folder, count):
    """Few enough broken images to be skipped, but nothing else: no training on nothing."""
    path = write_dataset(folder / f"all-broken-{count}", [scene(k, 1) for k in range(count)])
    images = sorted(path.parent.glob("*.png"))
    for image in images:
        image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(DataError, match=r"none of its images can be read.*; first .*0\.png"):
        TrainDataset(_config(path), reader)
    assert len(images) == count
    if count > 2:
        with pytest.raises(DataError, match=r"not one of its first 2 images can be read"):
            TrainDataset(replace(_config(path), max_unreadable=1), reader)


def test_empty_data_and_missing_evaluation_data_are_refused(reader, folder, data):
    """No samples, and an evaluation split that is not configured."""
    with pytest.raises(DataError, match="holds no samples"):
        TrainDataset(_config(write_dataset(folder / "none", [])), reader)
    with pytest.raises(ConfigError, match=r"data\.eval"):
        TrainDataset(_config(data), reader, split="eval")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dialect", "nonsense"),
        ("frame", "nonsense"),
        ("prompt", "closed"),
        ("prompt", "nothing.toml"),
        ("pixels", "9:5"),
    ],
)
def test_a_value_of_the_data_is_refused_by_its_key(reader, data, key, value):
    """The message names the key of the configuration, not the option of another command."""
    with pytest.raises(ConfigError, match=rf"^data\.{key}: (?!--)"):
        TrainDataset(_config(data, **{key: value}), reader)


def test_images_are_not_kept(reader, data):
    """What a dataset holds does not grow when its items are read."""
    trained = TrainDataset(_config(data), reader)
    trained[0]
    held = {name: id(value) for name, value in vars(trained).items()}
    items = [trained[number] for number in range(len(trained))]
    assert {name: id(value) for name, value in vars(trained).items()} == held
    patches = [item.pixel_values.numel() for item in items]
    tensors = [v for v in vars(trained).values() if isinstance(v, torch.Tensor)]
    assert sum(tensor.numel() for tensor in tensors) < min(patches)


def test_items_end(reader, data):
    """Iteration by index stops where the length says."""
    trained = TrainDataset(_config(data, limit=3), reader)
    assert len([*trained]) == len(trained) == 3
