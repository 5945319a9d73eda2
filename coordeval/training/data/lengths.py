"""How long samples are in tokens, told from sizes and texts without opening an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordeval.data.canonical import sample_text
from coordeval.data.ordering import order_objects
from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.coords import CoordFrame
    from coordeval.data.ordering import ObjectOrder
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Sample
    from coordeval.training.data.labels import AnswerLabeller

_SAMPLES_AT_ONCE = 1024


def answer_lengths(
    samples: Sequence[Sample],
    labeller: AnswerLabeller,
    *,
    dialect: Dialect,
    frame: CoordFrame,
    order: ObjectOrder,
) -> list[int]:
    """Tokens of every sample's answer, the end token included.

    With `random` order the number that holds for every order: where a description can be followed
    by something that merges with its last character, the largest over what stands last. Raises
    DataError, naming the id, for a description that is not valid Unicode.
    """
    out: list[int] = []
    for start in range(0, len(samples), _SAMPLES_AT_ONCE):
        chunk = samples[start : start + _SAMPLES_AT_ONCE]
        texts: list[str] = []
        owners: list[int] = []
        for number, sample in enumerate(chunk):
            for variant in _variants(sample, dialect, order):
                texts.append(sample_text(variant, dialect=dialect, frame=frame, order="as_is"))
                owners.append(number)
        longest = [0] * len(chunk)
        for number, length in zip(owners, _lengths(texts, owners, chunk, labeller), strict=True):
            longest[number] = max(longest[number], length)
        out += longest
    return out


def _variants(sample: Sample, dialect: Dialect, order: ObjectOrder) -> list[Sample]:
    """The sample with its objects in such orders that one of them has the longest answer."""
    if order != "random":
        return [replace(sample, objects=tuple(order_objects(sample.objects, order)))]
    if dialect.field_order == "desc_first":
        return [sample]  # around every record stand the same characters, wherever it is
    # The last description is followed by other brackets than the others. One that ends in a
    # letter or digit shares no token with them, so one of these stands for all.
    written = [obj for obj in sample.objects if not obj.iscrowd]
    by_ending = {"" if obj.desc[-1].isalnum() else obj.desc: obj for obj in written}
    out = []
    for last in by_ending.values():
        rest = [obj for obj in written if obj is not last]
        out.append(replace(sample, objects=(*rest, last)))
    return out or [sample]


def _lengths(
    texts: Sequence[str],
    owners: Sequence[int],
    samples: Sequence[Sample],
    labeller: AnswerLabeller,
) -> list[int]:
    try:
        return labeller.lengths(texts)
    except DataError:
        for text, owner in zip(texts, owners, strict=True):
            try:
                labeller.lengths([text])
            except DataError as error:
                raise DataError(f"id {samples[owner].id!r}: {error}") from None
        raise


class ImageLengths:
    """Image tokens by size in pixels, as `image_processor` cuts images; sizes are remembered."""

    def __init__(self, image_processor: Any) -> None:
        self._processor = image_processor
        self._known: dict[tuple[int, int], int | None] = {}

    def tokens(self, width: int, height: int) -> int | None:
        """Image tokens of an image of that size; None where it does not fit the patch grid."""
        size = (width, height)
        if size not in self._known:
            self._known[size] = self._count(width, height)
        return self._known[size]

    def _count(self, width: int, height: int) -> int | None:
        processor = self._processor
        if not processor.do_resize:
            cell = processor.patch_size * processor.merge_size
            fits = width % cell == 0 and height % cell == 0
            return (width // cell) * (height // cell) if fits else None
        try:
            patches = processor.get_number_of_image_patches(height, width)
        except ValueError:  # an aspect ratio above 200
            return None
        return int(patches) // int(processor.merge_size) ** 2


__all__ = ["ImageLengths", "answer_lengths"]
