"""The match table of a run inside a baseline file: dense arrays, deflated, in base64."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval.errors import DataError
from coordeval.metrics.sparse_rows import SparseRows
from coordeval.quoting import shown
from coordeval.stats.coco_matches import CocoMatches
from coordeval.stats.coco_matching import THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

MAX_MATCH_VALUES = 1 << 28
ROWS_AT_ONCE = 1024
_NAMES = ("image", "class_code", "score", "rank", "right", "counted", "in_range", "positives")


def pack_matches(matches: CocoMatches) -> dict[str, Any]:
    """Arrays as shape, type and base64 of deflated bytes; flags as bits.

    D detections, A area ranges, T thresholds: `image`, `class_code`, `score`, `rank` (D), `right`
    and `counted` (A, T, D), `in_range` (A, D), `positives` (A, images, classes).
    """
    areas, num = matches.in_range.shape
    flags = (areas, len(THRESHOLDS), num)
    images, classes = matches.positives.shape[0], matches.num_classes
    return {
        "image": _whole(matches.image.astype(np.int64)),
        "class_code": _whole(matches.class_code),
        "score": _whole(matches.score),
        "rank": _whole(matches.rank.astype(np.int64)),
        "right": _packed(flags, "|b1", [_bits(matches.right)]),
        "counted": _packed(flags, "|b1", [_bits(_counted(matches))]),
        "in_range": _packed((areas, num), "|b1", [np.packbits(matches.in_range)]),
        "positives": _packed((areas, images, classes), "<i4", _dense(matches)),
    }


def _whole(array: NDArray[Any]) -> dict[str, Any]:
    return _packed(array.shape, array.dtype.str, [np.ascontiguousarray(array)])


def _packed(shape: tuple[int, ...], dtype: str, parts: Iterable[NDArray[Any]]) -> dict[str, Any]:
    packer = zlib.compressobj(9)
    deflated = b"".join([*(packer.compress(part.tobytes()) for part in parts), packer.flush()])
    return {"shape": list(shape), "type": dtype, "data": b64encode(deflated).decode("ascii")}


def _bits(rows: Iterable[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    return np.packbits(np.concatenate(list(rows)))


def _counted(matches: CocoMatches) -> Iterator[NDArray[np.bool_]]:
    for area in range(matches.num_areas):
        for threshold in range(len(THRESHOLDS)):
            yield matches.counted(area, threshold)


def _dense(matches: CocoMatches) -> Iterator[NDArray[np.int32]]:
    """Ordinary ground truth per area range, image and class, some images at a time."""
    classes = matches.num_classes
    for area in range(matches.num_areas):
        part = matches.positives[:, area * classes : (area + 1) * classes]
        for first in range(0, part.shape[0], ROWS_AT_ONCE):
            yield part[first : first + ROWS_AT_ONCE].toarray().astype(np.int32)


def unpack_matches(raw: dict[str, Any]) -> CocoMatches:
    """The match table of a baseline; DataError where it is not one.

    Never unpacks more than the stated shapes take.
    """
    try:
        arrays = {name: _array_of(raw[name]) for name in _NAMES}
        _check(arrays)
        return _matches(arrays)
    except (KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
        said = shown(repr(error), 200)
        raise DataError(f"the baseline's match table cannot be read: {said}") from None


def _matches(arrays: dict[str, NDArray[Any]]) -> CocoMatches:
    from scipy import sparse

    in_range, positives = arrays["in_range"], arrays.pop("positives")
    area, image, code = np.nonzero(positives)
    num_areas, num_images, num_classes = positives.shape
    table = sparse.coo_array(
        (positives[area, image, code].astype(np.int64), (image, area * num_classes + code)),
        shape=(num_images, num_areas * num_classes),
    )
    right, moved = SparseRows(fill=False), SparseRows(fill=False)
    for row in range(num_areas * len(THRESHOLDS)):
        area_row, threshold = divmod(row, len(THRESHOLDS))
        right.append(arrays["right"][area_row, threshold])
        moved.append(arrays["counted"][area_row, threshold] ^ in_range[area_row])
    return CocoMatches(
        image=arrays["image"].astype(np.int32),
        class_code=arrays["class_code"].astype(np.int32),
        score=arrays["score"],
        rank=arrays["rank"].astype(np.int16),
        in_range=in_range,
        right=right,
        moved=moved,
        positives=sparse.csr_array(table),
    )


def _array_of(raw: dict[str, Any]) -> NDArray[Any]:
    shape, dtype = tuple(map(int, raw["shape"])), np.dtype(raw["type"])
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > MAX_MATCH_VALUES:
        raise ValueError(f"shape {shape}")
    num_bytes = (count + 7) // 8 if dtype.kind == "b" else count * dtype.itemsize
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(b64decode(raw["data"], validate=True), num_bytes + 1)
    if len(data) != num_bytes:
        raise ValueError(f"{len(data)} bytes or more instead of {num_bytes}")
    if dtype.kind != "b":
        return np.frombuffer(data, dtype=dtype).reshape(shape)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count)
    return bits.view(np.bool_).reshape(shape)


def _check(arrays: dict[str, NDArray[Any]]) -> None:
    """ValueError where the arrays do not fit one another."""
    image, code, score, rank, right, counted, in_range, positives = (
        arrays[name] for name in _NAMES
    )
    (num,), (areas, num_images, num_classes) = image.shape, positives.shape
    fits = (
        areas > 0
        and code.shape == score.shape == rank.shape == (num,)
        and right.shape == counted.shape == (areas, len(THRESHOLDS), num)
        and in_range.shape == (areas, num)
        and all(array.dtype.kind in "iufb" for array in (score, positives))
    )
    within = fits and all(
        codes.dtype.kind in "iu" and (not num or 0 <= codes.min() <= codes.max() < limit)
        for codes, limit in ((image, num_images), (code, num_classes), (rank, 1 << 15))
    )
    if not within or not all(array.dtype.kind == "b" for array in (right, counted, in_range)):
        raise ValueError("its arrays do not fit one another")


__all__ = ["pack_matches", "unpack_matches"]
