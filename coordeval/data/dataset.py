"""Images with their ground truth: one way to open JSONL and COCO files, plain or gzipped."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coordeval.coords import DEFAULT_FRAME, CoordFrame, frame_named
from coordeval.data.coco import CocoGeometry, CocoSource, load_coco, looks_like_coco
from coordeval.data.contract import read_header, read_objects, to_sample
from coordeval.data.federated_classes import mentioned_classes
from coordeval.data.paths import resolve_image
from coordeval.errors import ConfigError, DataError
from coordeval.jsonl import bounded_lines, load_json
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from coordeval.data.contract import RecordHeader
    from coordeval.records import Category, Sample

GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1 << 24
MAX_DOCUMENT_BYTES = 4 << 30
"""A COCO file is read whole: a larger one, or an archive that unpacks to more, is refused."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An opened dataset file; iterating reads it anew, so it can be gone through many times.

    `sha256` is of the file's bytes as they lie on the disk. `frame` holds for records in bins that
    name none.
    """

    path: Path
    sha256: str
    image_root: Path
    frame: CoordFrame
    need_images: bool
    format: Literal["jsonl", "coco"]
    coco: CocoSource | None = None

    @cached_property
    def categories(self) -> tuple[Category, ...] | None:
        """The full class list of a COCO file; of a JSONL the classes that its records name.

        None for a JSONL whose records name none (see `federated_classes`), which is the rule.
        Raises DataError with file and line where they contradict each other.
        """
        if self.coco is not None:
            return self.coco.categories
        return mentioned_classes(dataset_lines(self.path), str(self.path))

    def iter_samples(self) -> Iterator[Sample]:
        """Samples in file order; DataError names file and line, or the COCO image or annotation.

        With `need_images` every sample has an `image_path` inside the image root; whether the
        file is there is for the one who opens it to see.
        """
        if self.coco is not None:
            yield from self.coco.iter_samples(self.image_root, need_images=self.need_images)
            return
        for _, _, header, sample in self.iter_records():
            del header
            yield sample

    def iter_records(self) -> Iterator[tuple[int, dict[str, Any], RecordHeader, Sample]]:
        """JSONL only: line number, record as written, its checked header, and the sample."""
        line_of_id: dict[str, int] = {}
        for number, line in dataset_lines(self.path):
            try:
                raw = parse_line(line)
                header = read_header(raw, self.frame)
                objects = read_objects(header)
                image_path = resolve_image(self.image_root, header.image)
                _refuse_duplicate(line_of_id, header.id, number)
            except DataError as error:
                raise DataError(f"{self.path}:{number}: {error}") from None
            sample = to_sample(header, objects, image_path if self.need_images else None)
            yield number, raw, header, sample

    def __iter__(self) -> Iterator[Sample]:
        return self.iter_samples()

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        if self.coco is not None:
            return self.coco.count()
        return sum(1 for _ in dataset_lines(self.path))


def open_dataset(
    path: Path | str,
    *,
    image_root: Path | str | None = None,
    frame: str | CoordFrame = DEFAULT_FRAME,
    need_images: bool = True,
    geometry: CocoGeometry = "bbox",
    canvas: tuple[int, int] | None = None,
) -> Dataset:
    """Open a dataset JSONL or a COCO instances file (told apart by content; .gz is read too).

    Images resolve against `image_root`, else the file's folder. `geometry` and `canvas` are for
    COCO files (see `load_coco`). A file without records is an empty dataset. Raises DataError
    where the file or the image root cannot be read or the file is of neither form.
    """
    path = Path(path)
    root = Path(image_root) if image_root is not None else path.parent
    if need_images and image_root is not None and not root.is_dir():
        raise DataError(f"{root}: the image root is not a folder")
    document = read_coco_document(path)
    coco = None
    if document is not None:
        coco = load_coco(document, path, geometry=geometry, canvas=canvas)
    return Dataset(
        path=path,
        sha256=file_sha256(path),
        image_root=root,
        frame=frame_named(frame) if isinstance(frame, str) else frame,
        need_images=need_images,
        format="jsonl" if coco is None else "coco",
        coco=coco,
    )


def parse_canvas(text: str) -> tuple[int, int]:
    """Width and height of `640x480`; ConfigError where the text is of another form."""
    match = re.fullmatch(r"([1-9]\d{0,5})[xX×]([1-9]\d{0,5})", text.strip())
    if match is None:
        raise ConfigError(f"canvas {shown(text)} is not of the form WIDTHxHEIGHT, say 640x640")
    return int(match.group(1)), int(match.group(2))


def image_root_hint(image_root: Path, image: str) -> str | None:
    """Advice for a missing image: the folder `images` below the root, where the file lies there."""
    candidate = image_root / "images"
    try:
        found = (candidate / image).is_file() and not (image_root / image).is_file()
    except (OSError, ValueError):
        return None
    return f"the images lie in {candidate}: use --image-root {candidate}" if found else None


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes; DataError where it cannot be read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def dataset_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Non-blank lines with their 1-based numbers; gzip is unpacked, a byte order mark removed.

    Never holds more than one line, and no line above `MAX_LINE_BYTES`, whatever an archive unpacks
    to. Raises DataError for a longer line, and where the file cannot be read or the archive is
    damaged.
    """
    try:
        with _open_plain(path) as handle:
            for number, line in bounded_lines(handle, str(path)):
                text = line.removeprefix(BOM) if number == 1 else line
                if text.strip():
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def parse_line(line: bytes) -> Any:
    """The JSON value of one line; DataError without the place."""
    try:
        return load_json(line)
    except ValueError as error:
        raise DataError(f"not a JSON line: {error}") from None


def read_coco_document(
    path: Path, *, loads: Callable[[bytes], Any] = load_json
) -> dict[str, Any] | None:
    """The parsed document of a COCO file, None for a file of JSON lines (or an empty one).

    The first line decides where it is JSON by itself, so that a large JSONL is never read whole.
    `loads` parses, with ValueError for what it refuses. Raises DataError for JSON that is of
    neither form.
    """
    may_be_lines = path.name.removesuffix(".gz").lower().endswith(".jsonl")
    first = _first_line(path, bounded=may_be_lines)
    if first is None:
        return None
    try:
        document = loads(first)
    except ValueError as error:
        if may_be_lines and first.strip() not in (b"{", b"["):
            return None
        document = _whole_document(path, str(error), loads)
    if isinstance(document, list):
        raise DataError(_array_message(path, document))
    if looks_like_coco(document):
        assert isinstance(document, dict)
        return document
    return None


def _first_line(path: Path, *, bounded: bool) -> bytes | None:
    """The first line that is not blank; it may be a whole document where it is not `bounded`."""
    if bounded:
        first = next(dataset_lines(path), None)
        return None if first is None else first[1]
    try:
        with _open_plain(path) as handle:
            left = MAX_DOCUMENT_BYTES
            while left > 0 and (line := handle.readline(left + 1)):
                left -= len(line)
                text = line.removeprefix(BOM)
                if left >= 0 and text.strip():
                    return text
            if left < 0:
                raise _too_large(path)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    return None


def _whole_document(path: Path, first_line_error: str, loads: Callable[[bytes], Any]) -> Any:
    try:
        with _open_plain(path) as handle:
            document = loads(_read_bounded(handle, path).removeprefix(BOM))
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    except ValueError as error:
        raise DataError(
            f"{path}: neither JSON lines (line 1: {first_line_error}) "
            f"nor one JSON document ({error})"
        ) from None
    if isinstance(document, dict) and not looks_like_coco(document):
        raise DataError(
            f"{path}: one JSON object over several lines is neither COCO (images, annotations, "
            "categories) nor JSON lines (one record per line)"
        )
    return document


def _read_bounded(handle: BinaryIO, path: Path) -> bytes:
    parts, left = [], MAX_DOCUMENT_BYTES
    while part := handle.read(_BLOCK_BYTES):  # in blocks: read(n) takes n bytes at once
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise _too_large(path)
    return b"".join(parts)


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{path}: larger than {MAX_DOCUMENT_BYTES >> 30} GiB (unpacked): write one record per line "
        "(JSONL), which is not read whole"
    )


def _array_message(path: Path, document: list[Any]) -> str:
    first = document[0] if document else None
    if isinstance(first, dict) and "score" in first and "image_id" in first:
        return f"{path}: these are COCO detections, not ground truth: give the instances file"
    return f"{path}: a JSON array is not a dataset: write one record per line (JSONL)"


def _refuse_duplicate(line_of_id: dict[str, int], sample_id: str, number: int) -> None:
    other = line_of_id.setdefault(sample_id, number)
    if other != number:
        raise DataError(f"id {shown(sample_id)} is already on line {other}")


def _open_plain(path: Path) -> BinaryIO:
    handle = path.open("rb")
    magic = handle.read(len(GZIP_MAGIC))
    handle.seek(0)
    if magic == GZIP_MAGIC:
        handle.close()
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return handle


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such dataset file")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(f"{path}: cannot be read: {reason}")


__all__ = [
    "Dataset",
    "dataset_lines",
    "file_sha256",
    "image_root_hint",
    "open_dataset",
    "parse_canvas",
    "parse_line",
    "read_coco_document",
]
