"""The bin grid: frames, rounding, clamping, widening, and the vocabulary of a tokenizer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.coords import (
    COORD_TOKEN_RE,
    FRAMES,
    CoordVocabulary,
    coord_token,
    frame_named,
    quantise,
)
from coordeval.errors import CheckpointError, ConfigError

frames = st.sampled_from(list(FRAMES.values()))
bins = st.integers(0, 999)
sizes = st.integers(2, 8000)


@given(frames, st.lists(bins, min_size=4, max_size=4), sizes, sizes)
def test_bins_to_pixels_to_bins_is_the_identity(frame, values, width, height):
    """Rounding to nearest brings every bin back, in every frame and at every size."""
    pixels = frame.to_pixels(values, width, height)
    quantised = quantise(pixels.tolist(), width, height, frame, is_box=False)
    assert quantised.bins == tuple(values)
    assert quantised.clamped == 0


@given(frames, st.lists(bins, min_size=4, max_size=4), sizes, sizes)
def test_outward_rounding_does_not_grow_a_box_that_is_on_the_grid(frame, values, width, height):
    """Float noise of a round trip never pushes an exact bin outward."""
    pixels = frame.to_pixels(values, width, height)
    box = [
        min(pixels[0], pixels[2]),
        min(pixels[1], pixels[3]),
        max(pixels[0], pixels[2]),
        max(pixels[1], pixels[3]),
    ]
    expected = (
        min(values[0], values[2]),
        min(values[1], values[3]),
        max(values[0], values[2]),
        max(values[1], values[3]),
    )
    assert quantise(box, width, height, frame, rounding="outward").bins == expected


@pytest.mark.parametrize(
    ("frame", "width", "height", "expected"),
    [
        ("coordexp", 640, 480, [0.0, 0.0, 639.0, 479.0]),
        ("unit-999", 640, 480, [0.0, 0.0, 640.0, 480.0]),
        ("unit-1000", 1000, 500, [0.0, 0.0, 999.0, 499.5]),
        ("square-1000", 1000, 500, [0.0, 0.0, 999.0, 999.0]),
    ],
)
def test_each_frame_maps_the_corners_as_its_formula_says(frame, width, height, expected):
    """First and last bin land where the frame's definition puts them."""
    got = FRAMES[frame].to_pixels([0, 0, 999, 999], width, height)
    assert got.tolist() == pytest.approx(expected)


def test_square_frame_uses_the_longer_side_for_both_axes():
    """A padded square makes y bins as wide as x bins."""
    got = FRAMES["square-1000"].to_pixels([[500, 500]], 400, 800)
    assert got.tolist() == [[400.0, 400.0]]


def test_values_beyond_the_grid_are_clamped_and_counted():
    """X + w equal to the width is one clamped value, never an error."""
    got = quantise([-5, 10, 640, 100], 640, 480, FRAMES["coordexp"])
    assert (got.bins[0], got.bins[2], got.clamped) == (0, 999, 2)


@pytest.mark.parametrize(
    ("box", "bins"), [([100.0, 50.0, 100.2, 60.0], (50, 51)), ([1998.9, 0, 1999, 9], (998, 999))]
)
def test_a_positive_box_that_collapses_is_widened_by_one_bin(box, bins):
    """A thin box keeps one bin of width, inside the grid."""
    got = quantise(box, 2000, 2000, FRAMES["coordexp"])
    assert (got.bins[0], got.bins[2]) == bins
    assert got.widened


def test_an_empty_box_is_not_widened():
    """A box without width stays without width."""
    got = quantise([5, 5, 5, 9], 100, 100, FRAMES["coordexp"])
    assert not got.widened
    assert got.bins[0] == got.bins[2]


def test_outward_encloses_and_nearest_rounds():
    """Outward floors the top-left and ceils the bottom-right corner."""
    box = [10.4, 10.6, 20.4, 20.6]
    frame = FRAMES["coordexp"]
    assert quantise(box, 1000, 1000, frame, rounding="outward").bins == (10, 10, 21, 21)
    assert quantise(box, 1000, 1000, frame).bins == (10, 11, 20, 21)


def test_an_image_of_one_pixel_maps_to_bin_zero():
    """An axis without extent gives bin 0 and pixel 0, not a division by zero."""
    frame = FRAMES["coordexp"]
    assert quantise([0, 0, 0, 0], 1, 1, frame).bins == (0, 0, 0, 0)
    assert frame.to_pixels([999, 999], 1, 1).tolist() == [0.0, 0.0]


def test_token_text_round_trips_and_refuses_others():
    """Only <|coord_0|>..<|coord_999|> without leading zeros are coordinate tokens."""
    assert all(COORD_TOKEN_RE.fullmatch(coord_token(k))[1] == str(k) for k in range(1000))
    for text in (
        "<|coord_1000|>",
        "<|coord_01|>",
        "<|coord_|>",
        "<|coord_1|> ",
        "<|coord_-1|>",
        "<|coord_4\uff12|>",
    ):
        assert COORD_TOKEN_RE.fullmatch(text) is None
    with pytest.raises(ValueError, match="outside"):
        coord_token(1000)


def test_an_unknown_frame_lists_the_known_ones():
    """A wrong frame name is a configuration error that names the frames."""
    with pytest.raises(ConfigError, match="square-1000"):
        frame_named("coordexpp")


class FakeTokenizer:
    """A tokenizer reduced to what the vocabulary asks of it."""

    def __init__(self, vocab, *, splits=()):
        self.vocab, self.splits = vocab, set(splits)

    def get_vocab(self):
        return self.vocab

    def encode(self, text):
        return [1, 2] if text in self.splits else [self.vocab[text]]

    def __call__(self, text, add_special_tokens):
        tokens = [part + "|>" for part in text.split("|>")[:-1]]
        return {"input_ids": [i for token in tokens for i in self.encode(token)]}


def test_vocabulary_reads_ids_from_the_tokenizer_in_bin_order():
    """Ids come from the tokenizer, wherever they lie, and map back to bins."""
    ids = np.random.default_rng(0).permutation(5000)[:1000]
    vocabulary = CoordVocabulary.from_tokenizer(
        FakeTokenizer({coord_token(k): int(ids[k]) for k in range(1000)})
    )
    assert vocabulary.token_ids == tuple(ids.tolist())
    assert not vocabulary.is_contiguous
    other = next(i for i in range(5000) if i not in set(ids.tolist()))
    assert vocabulary.bins_of([int(ids[7]), other, int(ids[999])]).tolist() == [7, -1, 999]
    assert vocabulary.bins_of([]).tolist() == []


@pytest.mark.parametrize(
    ("tokenizer", "named"),
    [
        (FakeTokenizer({coord_token(k): k for k in range(1000) if k != 17}), r"coord_17\|"),
        (
            FakeTokenizer({coord_token(k): k + 5 for k in range(1000)}, splits=["<|coord_42|>"]),
            r"coord_42\|",
        ),
    ],
)
def test_missing_or_split_tokens_are_named_with_the_remedy(tokenizer, named):
    """A tokenizer without 1000 single tokens is refused, with the token and the command."""
    with pytest.raises(CheckpointError, match=named) as error:
        CoordVocabulary.from_tokenizer(tokenizer)
    assert "coordeval vocab expand" in str(error.value)
