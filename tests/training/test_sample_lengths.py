"""Lengths without images: the longest of all orders, and image tokens by size."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coordeval.coords import FRAMES, CoordVocabulary
from coordeval.data.canonical import sample_text
from coordeval.errors import DataError
from coordeval.parsers.dialects import dialect_named
from coordeval.records import GroundTruthObject, Sample
from coordeval.training.data.labels import AnswerLabeller
from coordeval.training.data.lengths import ImageLengths, answer_lengths
from coordeval.training.tiny.processor import TinyVision, image_processor
from coordeval.training.tiny.tokenizer import build_tiny_tokenizer

# Words whose last characters become one token with what follows a description.
MERGING = ['x!"}]}', 'x?"},', 'x]]"}]}', 'x "},', 'x."}}', ' "!a', '"!!', 'a"},']
TOKENIZER = build_tiny_tokenizer(MERGING)
LABELLER = AnswerLabeller(
    TOKENIZER, CoordVocabulary.from_tokenizer(TOKENIZER), TOKENIZER.eos_token_id
)
FRAME = FRAMES["coordexp"]
DESCRIPTIONS = ["x!", "x?", "x]]", "x ", "x.", "a", "!a", "!!", "7", '"', "<|im_end|>", "猫"]
objects = st.lists(
    st.builds(
        GroundTruthObject,
        st.sampled_from(DESCRIPTIONS),
        st.sampled_from(["bbox_2d", "line"]),
        st.just((1.0, 2.0, 3.0, 4.0)),
        st.booleans(),
    ),
    max_size=4,
)


def _sample(objs):
    return Sample(id="s", image="s.png", width=64, height=64, objects=tuple(objs))


def _real(objs, dialect):
    """Tokens of the answer with objects in this very order."""
    text = sample_text(_sample(objs), dialect=dialect, frame=FRAME, order="as_is")
    return len(LABELLER.label(text).token_ids)


@settings(max_examples=250)
@given(
    objects,
    st.sampled_from(["coordjson", "coordjson-quoted", "coordjson-bins", "object-map-bare"]),
    st.sampled_from(["desc_first", "geometry_first"]),
)
def test_the_length_of_a_random_order_is_that_of_the_longest(objs, name, field_order):
    """It equals the largest over all permutations; with descriptions first all are equal."""
    dialect = dialect_named(name, field_order=field_order)
    real = {_real(order, dialect) for order in permutations(objs)}
    told = answer_lengths([_sample(objs)], LABELLER, dialect=dialect, frame=FRAME, order="random")
    assert told == [max(real)]
    if field_order == "desc_first":
        assert len(real) == 1


def test_what_stands_last_can_change_a_length():
    """The words above do merge: the permutations of the test before differ."""
    box = ("bbox_2d", (1.0, 2.0, 3.0, 4.0))
    pair = [GroundTruthObject("x!", *box), GroundTruthObject("a", *box)]
    dialect = dialect_named("coordjson", field_order="geometry_first")
    assert _real(pair, dialect) != _real(pair[::-1], dialect)


def test_many_samples_keep_their_order():
    """Lengths come in the order of the samples, across internal batches."""
    samples = [
        _sample([GroundTruthObject("a", "bbox_2d", (1.0, 2.0, 3.0, 4.0))] * (k % 3))
        for k in range(2500)
    ]
    dialect = dialect_named("coordjson")
    told = answer_lengths(samples, LABELLER, dialect=dialect, frame=FRAME, order="sorted")
    expected = [_real(samples[k].objects, dialect) for k in range(3)]
    assert told == [expected[k % 3] for k in range(2500)]


def test_invalid_unicode_is_refused_with_the_id():
    """The sample that cannot be tokenised is named."""
    bad = Sample(
        id="broken",
        image="s.png",
        width=9,
        height=9,
        objects=(GroundTruthObject("\ud800", "bbox_2d", (1.0, 2.0, 3.0, 4.0)),),
    )
    with pytest.raises(DataError, match=r"'broken'.*Unicode"):
        answer_lengths(
            [_sample([]), bad],
            LABELLER,
            dialect=dialect_named("coordjson"),
            frame=FRAME,
            order="sorted",
        )


@settings(max_examples=25)
@given(st.integers(1, 230), st.integers(1, 230), st.booleans())
def test_image_tokens_are_those_of_the_processor(width, height, resizes):
    """Counted from the size alone they equal what the image is cut into; None where it is not."""
    processor = image_processor(TinyVision())
    processor.do_resize = resizes
    told = ImageLengths(processor).tokens(width, height)
    try:
        features = processor(images=[Image.new("RGB", (width, height))], return_tensors="pt")
    except ValueError:
        assert told is None
    else:
        assert told == int(features["image_grid_thw"].prod()) // 4
