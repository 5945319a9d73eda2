"""Classes that the records of a JSONL mention, with their ids and frequencies (LVIS).

A JSONL has no class list of its own. So that federated labels keep their meaning, each record may
name the classes of its objects and of its two lists under `federated_categories` in its metadata:
`[{"id": 10, "name": "zebra", "frequency": "r"}, ...]`. So records can be shuffled, cut and joined.
A conversion lets its first record name all classes, so that the whole list comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.data.federated import read_frequency
from coordeval.errors import DataError
from coordeval.jsonl import load_json
from coordeval.quoting import shown
from coordeval.records import Category

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coordeval.records import Sample

CLASSES = "federated_categories"


def read_classes(metadata: Mapping[str, Any]) -> tuple[Category, ...]:
    """The classes that a record mentions; empty where it names none.

    Raises DataError without the place for anything but a list of id, name and (where known)
    frequency.
    """
    raw = metadata.get(CLASSES)
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise DataError(f"{CLASSES!r} must be a list of id, name and frequency")
    out = []
    for item in raw:
        number, name = item.get("id"), item.get("name")
        if isinstance(number, bool) or not isinstance(number, int):
            raise DataError(f"{CLASSES!r}: 'id' must be an integer")
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{CLASSES!r}: category {number}: 'name' must be a non-blank string")
        out.append(Category(id=number, name=name, frequency=read_frequency(item)))
    return tuple(out)


def write_classes(sample: Sample, classes: Mapping[int, Category]) -> dict[str, Any]:
    """The key of a record's metadata, for an image of a list of classes by id.

    Empty where neither the image nor a class of it says anything federated.
    """
    labels = sample.federated
    ids = {obj.category_id for obj in sample.objects if obj.category_id is not None}
    if labels is not None:
        ids |= {*labels.negative_ids, *labels.not_exhaustive_ids}
    mentioned = [classes[number] for number in sorted(ids) if number in classes]
    if labels is None and all(category.frequency is None for category in mentioned):
        return {}
    return write_all_classes(mentioned)


def write_all_classes(categories: Iterable[Category]) -> dict[str, Any]:
    """The key of a record's metadata with these classes."""
    return {CLASSES: [write_category(category) for category in categories]}


def write_category(category: Category) -> dict[str, Any]:
    """A class as JSON; `frequency` only where it is known."""
    plain: dict[str, Any] = {"id": category.id, "name": category.name}
    return plain if category.frequency is None else plain | {"frequency": category.frequency}


class MentionedClasses:
    """The classes of all records, which must agree on what an id means."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Category, int]] = {}

    def add(self, categories: Iterable[Category], line: int) -> None:
        """Take in the classes of one line; DataError without the place where they contradict."""
        for category in categories:
            other, other_line = self._known.setdefault(category.id, (category, line))
            if other != category:
                raise DataError(
                    f"{CLASSES!r}: category {category.id} is {_words(category)} here and "
                    f"{_words(other)} on line {other_line}"
                )

    def listed(self) -> tuple[Category, ...] | None:
        """All classes by id; None where no record names any."""
        rising = sorted(self._known)
        return tuple(self._known[number][0] for number in rising) if rising else None


def mentioned_classes(
    lines: Iterable[tuple[int, bytes]], where: str
) -> tuple[Category, ...] | None:
    """The classes that the lines of a JSONL mention, by id; None where none does.

    Only lines that hold the key are taken apart, and lines that are no record are left to the
    reader of samples. Raises DataError with `where` and the line for classes that cannot be read
    or contradict each other.
    """
    found = MentionedClasses()
    for number, line in lines:
        if CLASSES.encode() not in line:
            continue
        try:
            raw = load_json(line)
        except ValueError:
            continue
        metadata = raw.get("metadata") if isinstance(raw, dict) else None
        try:
            found.add(read_classes(metadata) if isinstance(metadata, dict) else (), number)
        except DataError as error:
            raise DataError(f"{where}:{number}: 'metadata' {error}") from None
    return found.listed()


def with_unlisted(
    listed: Sequence[Category], names: Mapping[str, set[int | None]]
) -> tuple[Category, ...]:
    """A class list, and behind it the names that it lacks.

    `names` maps descriptions to the category ids that objects of that name carry: where that is one
    and it is free it is taken, else the next number above all.
    """
    out = list(listed)
    taken = {category.id for category in listed}
    known = {category.name for category in listed}
    for name in sorted(names.keys() - known):
        given = next(iter(names[name])) if len(names[name]) == 1 else None
        number = given if given is not None and given not in taken else max(taken, default=0) + 1
        taken.add(number)
        out.append(Category(id=number, name=name))
    return tuple(out)


def _words(category: Category) -> str:
    known = "" if category.frequency is None else f" ({category.frequency})"
    return f"{shown(category.name, 60)}{known}"


__all__ = [
    "CLASSES",
    "MentionedClasses",
    "mentioned_classes",
    "read_classes",
    "with_unlisted",
    "write_all_classes",
    "write_category",
    "write_classes",
]
