"""One record of the dataset JSONL contract: checked, and brought to a Sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from coordeval.coords import CoordFrame, frame_named
from coordeval.data.federated import read_federated
from coordeval.data.federated_classes import read_classes
from coordeval.data.objects import read_object
from coordeval.errors import ConfigError, DataError
from coordeval.quoting import shown
from coordeval.records import Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordeval.records import Category, FederatedLabels, GroundTruthObject

_T = TypeVar("_T")
RECORD_KEYS = frozenset(
    {
        "coord_space",
        "frame",
        "height",
        "id",
        "image",
        "image_id",
        "images",
        "metadata",
        "objects",
        "width",
    }
)
MAX_SIDE_PX = 10_000_000
"""A longer image side is a typing error, and would cost precision in coordinates."""


class Fault(NamedTuple):
    """What is wrong with a record, without the place; `kind` is one of the validation kinds."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    """A checked record but for its objects, which are still as written.

    `classes` are those that its metadata names as `federated_categories`.
    """

    id: str
    image: str
    width: int
    height: int
    image_id: int | None
    metadata: dict[str, Any]
    federated: FederatedLabels | None
    classes: tuple[Category, ...]
    frame: CoordFrame
    bins: bool
    raw_objects: list[Any]


def check_header(raw: Any, frame: CoordFrame) -> tuple[RecordHeader | None, list[Fault]]:
    """Read everything of a record but its objects; all faults are listed, not only the first.

    `frame` holds where the record names none. The header is None where there is any fault.
    """
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        return None, [Fault("malformed_line", f"a record must be a JSON object, not {kind}")]
    faults: list[Fault] = []
    image = _image(raw, faults)
    width, height = _side(raw, "width", faults), _side(raw, "height", faults)
    objects = raw.get("objects")
    if "objects" not in raw:
        faults.append(Fault("missing_key", "key 'objects' is missing (an empty image has [])"))
    elif not isinstance(objects, list):
        faults.append(Fault("bad_value", "'objects' must be a list"))
    sample_id = _sample_id(raw, image, faults)
    image_id = raw.get("image_id")
    if image_id is not None and (isinstance(image_id, bool) or not isinstance(image_id, int)):
        faults.append(Fault("bad_value", "'image_id' must be an integer"))
    metadata = raw.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        faults.append(Fault("bad_value", "'metadata' must be a JSON object"))
    federated = _of_metadata(read_federated, metadata, faults)
    classes = _of_metadata(read_classes, metadata, faults)
    bins = _coord_space_is_bins(raw, faults)
    frame = _frame(raw, frame, faults)
    if faults or image is None or width is None or height is None:
        return None, faults
    assert sample_id is not None
    assert isinstance(objects, list)
    header = RecordHeader(
        id=sample_id,
        image=image,
        width=width,
        height=height,
        image_id=image_id,
        metadata=metadata or {},
        federated=federated,
        classes=classes or (),
        frame=frame,
        bins=bins,
        raw_objects=objects,
    )
    return header, faults


def read_header(raw: Any, frame: CoordFrame) -> RecordHeader:
    """`check_header` for readers: DataError with the first fault, without the place."""
    header, faults = check_header(raw, frame)
    if header is None:
        raise DataError(faults[0].message)
    return header


def read_objects(header: RecordHeader) -> tuple[GroundTruthObject, ...]:
    """The objects of a record in pixels; DataError names the object's index."""
    out = []
    for index, raw in enumerate(header.raw_objects):
        try:
            out.append(read_header_object(header, raw))
        except DataError as error:
            raise DataError(f"objects[{index}]: {error}") from None
    return tuple(out)


def read_header_object(header: RecordHeader, raw: Any) -> GroundTruthObject:
    """One object of a record in pixels; DataError without the place."""
    return read_object(
        raw, width=header.width, height=header.height, frame=header.frame, bins=header.bins
    )


def to_sample(
    header: RecordHeader, objects: tuple[GroundTruthObject, ...], image_path: Path | None
) -> Sample:
    """A header and its objects as one Sample."""
    return Sample(
        id=header.id,
        image=header.image,
        width=header.width,
        height=header.height,
        objects=objects,
        image_path=image_path,
        image_id=header.image_id,
        metadata=header.metadata,
        federated=header.federated,
    )


def read_side(value: Any) -> int | None:
    """A positive whole number of pixels (640 or 640.0), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        return None
    return int(value) if 1 <= value <= MAX_SIDE_PX else None


def _side(raw: dict[str, Any], key: str, faults: list[Fault]) -> int | None:
    if key not in raw:
        faults.append(Fault("missing_key", f"key {key!r} is missing"))
        return None
    side = read_side(raw[key])
    if side is None:
        kind = "non_finite" if _is_non_finite(raw[key]) else "bad_value"
        message = f"{key!r} must be a whole number of pixels from 1 to {MAX_SIDE_PX:,}"
        faults.append(Fault(kind, f"{message}, not {shown(str(raw[key]), 40)}"))
    return side


def _is_non_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _image(raw: dict[str, Any], faults: list[Fault]) -> str | None:
    image = raw.get("image")
    images = raw.get("images")
    if image is None and images is None:
        faults.append(Fault("missing_key", "key 'image' is missing"))
        return None
    if images is not None:
        if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], str):
            faults.append(Fault("bad_value", "'images' must be a list of exactly one path"))
            return None
        if image is not None and image != images[0]:
            faults.append(Fault("bad_value", "'image' and 'images' name different files"))
            return None
        image = images[0]
    if not isinstance(image, str):
        faults.append(Fault("bad_value", "'image' must be a string"))
        return None
    if not image.strip():
        faults.append(Fault("bad_value", "'image' is empty"))
        return None
    return image


def _sample_id(raw: dict[str, Any], image: str | None, faults: list[Fault]) -> str | None:
    value = raw.get("id")
    if value is None:
        return image
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        faults.append(Fault("bad_value", "'id' must be a non-blank string"))
        return None
    return value


def _of_metadata(
    read: Callable[[dict[str, Any]], _T], metadata: Any, faults: list[Fault]
) -> _T | None:
    try:
        return read(metadata) if isinstance(metadata, dict) else None
    except DataError as error:
        faults.append(Fault("bad_value", f"'metadata' {error}"))
        return None


def _coord_space_is_bins(raw: dict[str, Any], faults: list[Fault]) -> bool:
    value = raw.get("coord_space")
    if value is None or value == "pixels":
        return False
    if value != "bins":
        faults.append(
            Fault("bad_value", f"'coord_space' must be 'pixels' or 'bins', not {shown(str(value))}")
        )
    return True


def _frame(raw: dict[str, Any], default: CoordFrame, faults: list[Fault]) -> CoordFrame:
    name = raw.get("frame")
    if name is None:
        return default
    if not isinstance(name, str):
        faults.append(Fault("bad_value", "'frame' must be a string"))
        return default
    try:
        return frame_named(name)
    except ConfigError as error:
        faults.append(Fault("bad_value", str(error)))
        return default


__all__ = [
    "MAX_SIDE_PX",
    "RECORD_KEYS",
    "Fault",
    "RecordHeader",
    "check_header",
    "read_header",
    "read_header_object",
    "read_objects",
    "read_side",
    "to_sample",
]
