"""What scoring works on: one entry per image, and flat columns over all records and objects.

Records and ground truth of all images stand one after the other, in the order of the run, so
that every later step is a few array operations over the whole data set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from coordeval.metrics.compact import Texts, Values, Whole
from coordeval.metrics.iou import Shapes
from coordeval.metrics.packed_text import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from coordeval.metrics.classes import ClassUniverse
    from coordeval.metrics.names.matching import ClassNames
    from coordeval.records import FederatedLabels

KIND_CODES: dict[str | None, int] = {None: -1, "bbox_2d": 0, "poly": 1, "line": 2}
KIND_NAMES: dict[int, str | None] = {code: kind for kind, code in KIND_CODES.items()}
BOX, POLY, LINE = 0, 1, 2
Item = TypeVar("Item")


@dataclass(slots=True, kw_only=True)
class ImageEntry:
    """One headline rollout (sample_index 0): what is known about it besides its objects.

    `failed` says that the engine reported an error: its text is not read, its ground truth
    counts as missed. `first_record` is a row of the flat columns. `num_tokens` is None where the
    line holds no token ids. `guard` is what the line says about the loop guard, `federated` which
    further classes the image was judged for. `token_ids` and `token_logprobs` are there until
    `pack`, which also keeps the text in less memory.
    """

    index: int
    id: str
    image: str | None
    image_id: int | None
    width: int
    height: int
    failed: bool
    finish_reason: str | None
    error: str | None
    written: str | bytes = field(repr=False)
    issues: Mapping[str, int]
    conforming: bool
    first_record: int
    num_found: int
    num_valid: int
    num_gt_written: int
    has_scores: bool
    num_tokens: int | None
    token_ids: NDArray[np.int64] | None
    token_logprobs: NDArray[np.float64] | None
    guard: dict[str, Any] | None = None
    federated: FederatedLabels | None = None

    @property
    def text(self) -> str:
        """What the model wrote, verbatim; empty where the engine failed."""
        return unpack(self.written)

    def pack(self) -> None:
        """Give up the tokens, and hold the text packed."""
        self.token_ids = self.token_logprobs = None
        if isinstance(self.written, str):
            self.written = pack(self.written)


class Column(Protocol[Item]):
    """A column that can grow: a list, or one that takes less memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Item: ...

    def __iter__(self) -> Iterator[Item]: ...

    def append(self, item: Item, /) -> None:
        """Add one row."""

    def extend(self, items: Iterable[Item], /) -> None:
        """Add rows."""


@dataclass(slots=True, kw_only=True)
class RecordColumns:
    """Found records in emission order, as the parser returned them; `image` is an image's row."""

    image: Column[int] = field(default_factory=list)
    start: Column[int] = field(default_factory=list)
    end: Column[int] = field(default_factory=list)
    desc: Column[str | None] = field(default_factory=list)
    kind: Column[str | None] = field(default_factory=list)
    values: Column[tuple[int, ...] | None] = field(default_factory=list)
    reason: Column[str | None] = field(default_factory=list)
    detail: Column[str | None] = field(default_factory=list)
    evidence: Column[str | None] = field(default_factory=list)
    slot: Column[int | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image)


@dataclass(slots=True, kw_only=True)
class AllRecords(RecordColumns):
    """The records of a whole run, in columns that take few bytes per record."""

    image: Whole = field(default_factory=Whole)
    start: Whole = field(default_factory=Whole)
    end: Whole = field(default_factory=Whole)
    desc: Texts = field(default_factory=Texts)
    kind: Texts = field(default_factory=Texts)
    values: Values = field(default_factory=Values)
    reason: Texts = field(default_factory=Texts)
    detail: Texts = field(default_factory=Texts)
    evidence: Texts = field(default_factory=Texts)
    slot: Whole = field(default_factory=lambda: Whole(optional=True))

    def extend(self, records: RecordColumns, *, first_image: int) -> None:
        """Add records whose images count from `first_image`."""
        self.image.extend(image + first_image for image in records.image)
        self.start.extend(records.start)
        self.end.extend(records.end)
        self.desc.extend(records.desc)
        self.kind.extend(records.kind)
        self.values.extend(records.values)
        self.reason.extend(records.reason)
        self.detail.extend(records.detail)
        self.evidence.extend(records.evidence)
        self.slot.extend(records.slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class GtColumns:
    """Ground truth that is scored (boxes and polygons with an area), sorted by image.

    `class_code` indexes the class universe; `area` is the annotated one, else the geometry's, in
    pixels squared. `zero_area`, `lines` (per image) count what is left out.
    """

    shapes: Shapes
    class_code: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    desc: Texts
    zero_area: NDArray[np.int64]
    lines: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredColumns:
    """Valid predictions that are scored (boxes and polygons), sorted by image, then emission.

    `record` is the row in `RecordColumns`; `class_code` is -1 for names outside the universe;
    `copy_group` numbers distinct (image, name, geometry) and `is_copy` marks exact repeats of an
    earlier prediction. `lines` and `outside` are counts per image.
    """

    shapes: Shapes
    record: NDArray[np.int64]
    class_code: NDArray[np.int64]
    copy_group: NDArray[np.int64]
    is_copy: NDArray[np.bool_]
    lines: NDArray[np.int64]
    outside: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.class_code)

    def subset(self, keep: NDArray[np.bool_]) -> PredColumns:
        """The predictions that `keep` marks; per-image counts stay."""
        rows = np.flatnonzero(keep)
        new_row = {int(old): new for new, old in enumerate(rows)} if self.shapes.polygons else {}
        polygons = {
            new_row[row]: points for row, points in self.shapes.polygons.items() if row in new_row
        }
        return PredColumns(
            shapes=Shapes(
                image=self.shapes.image[rows], boxes=self.shapes.boxes[rows], polygons=polygons
            ),
            record=self.record[rows],
            class_code=self.class_code[rows],
            copy_group=self.copy_group[rows],
            is_copy=self.is_copy[rows],
            lines=self.lines,
            outside=self.outside,
        )


class Written(Protocol):
    """What repeats and loops are looked for in; `record_image` (records) are rows of `images`."""

    @property
    def images(self) -> Sequence[ImageEntry]:
        """The images, in the order of their records."""

    @property
    def records(self) -> RecordColumns:
        """Their records."""

    @property
    def record_image(self) -> NDArray[np.int64]:
        """The image of each record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPart:
    """Some images of a run with their records, by themselves; a `Written`."""

    images: Sequence[ImageEntry]
    records: RecordColumns
    record_image: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSample:
    """All rollouts of one sample_index >= 1, laid beside the headline's images and ground truth.

    `done` (images) marks where there is such a rollout, `failed` where its engine failed instead;
    `pred` are its scored predictions (`record` counts valid records of this sample only).
    """

    sample_index: int
    done: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    pred: PredColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Everything read from a run, ready for the metrics; `others` by rising sample_index.

    `record_scores` are the confidences that the lines bring, in the order of the records of the
    images that bring them (`ImageEntry.has_scores`). `names` says which names stand for which
    class, `category_codes` which category ids of the
    dataset do, `frequency` (class code -> r, c, f) how frequent LVIS calls a class.
    """

    images: list[ImageEntry]
    records: AllRecords
    record_image: NDArray[np.int64]
    record_valid: NDArray[np.bool_]
    record_scores: NDArray[np.float64]
    gt: GtColumns
    pred: PredColumns
    names: ClassNames
    sizes_wh: NDArray[np.int64]
    alive: NDArray[np.bool_]
    others: tuple[OtherSample, ...] = ()
    category_codes: Mapping[int, int] = field(default_factory=dict)
    frequency: Mapping[int, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def universe(self) -> ClassUniverse:
        """The classes that the score is over."""
        return self.names.universe

    @property
    def num_images(self) -> int:
        """How many headline rollouts there are, engine errors included."""
        return len(self.images)


__all__ = [
    "BOX",
    "KIND_CODES",
    "KIND_NAMES",
    "LINE",
    "POLY",
    "AllRecords",
    "Column",
    "Columns",
    "GtColumns",
    "ImageEntry",
    "OtherSample",
    "PredColumns",
    "RecordColumns",
    "Written",
    "WrittenPart",
]
