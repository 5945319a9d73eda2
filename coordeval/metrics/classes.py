"""Class names: how descriptions are normalised, and which classes a score is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coordeval.data.names import normalise_desc
from coordeval.records import Category

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NameRule = Literal["nfkc_casefold", "lower_punctuation"]
UNKNOWN_CLASS = -1


def lower_punctuation(desc: str) -> str:
    """Lower case, `_ / ( )` to spaces, runs of spaces to one, stripped (protocol `coordexp`)."""
    return " ".join(desc.lower().translate(_PUNCTUATION_TO_SPACE).split())


_PUNCTUATION_TO_SPACE = str.maketrans("_/()", "    ")
NAME_RULES: dict[str, Callable[[str], str]] = {
    "nfkc_casefold": normalise_desc,
    "lower_punctuation": lower_punctuation,
}


class NormalisedNames(dict[str, str]):
    """Descriptions to their normalised form; each is normalised when it is first asked for."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self._rule = NAME_RULES[rule]

    def __missing__(self, desc: str) -> str:
        self[desc] = result = self._rule(desc)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassUniverse:
    """The classes that a score is over; a class code is the position in `names`.

    `names` are normalised, `labels` as the source writes them, `ids` the COCO category ids.
    `source` is `dataset` (a class list was given) or `ground_truth` (its distinct descriptions).
    `added` counts ground-truth names that a given list lacks; they are appended, never lost.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    ids: tuple[int, ...]
    source: Literal["dataset", "ground_truth"]
    added: int = 0

    def codes(self) -> dict[str, int]:
        """Normalised name -> class code."""
        return {name: code for code, name in enumerate(self.names)}


def build_universe(
    categories: Sequence[Category] | None,
    gt_descs: Iterable[str],
    normalise: Callable[[str], str] = normalise_desc,
    gt_category_ids: dict[str, int] | None = None,
) -> ClassUniverse:
    """The class universe: the given list, else the distinct descriptions of all ground truth.

    `gt_descs` are raw descriptions of the whole ground truth; `gt_category_ids` maps normalised
    names to the category ids that the ground truth carries (used where no list is given and they
    are complete and distinct, else ids count from 1 in the order of the names). No list and no
    ground truth give an empty universe.
    """
    seen: dict[str, str] = {}
    for desc in gt_descs:
        seen.setdefault(normalise(desc), desc)
    if categories:
        entries: dict[str, Category] = {}
        for category in categories:
            entries.setdefault(normalise(category.name), category)
        next_id = max(category.id for category in categories) + 1
        missing = sorted(name for name in seen if name not in entries)
        for offset, name in enumerate(missing):
            entries[name] = Category(id=next_id + offset, name=seen[name])
        return ClassUniverse(
            names=tuple(entries),
            labels=tuple(category.name for category in entries.values()),
            ids=tuple(category.id for category in entries.values()),
            source="dataset",
            added=len(missing),
        )
    names = sorted(seen)
    known = gt_category_ids or {}
    ids = [known[name] for name in names if name in known]
    if len(ids) != len(names) or len(set(ids)) != len(names):
        ids = list(range(1, len(names) + 1))
    return ClassUniverse(
        names=tuple(names),
        labels=tuple(seen[name] for name in names),
        ids=tuple(ids),
        source="ground_truth",
    )


__all__ = [
    "NAME_RULES",
    "UNKNOWN_CLASS",
    "ClassUniverse",
    "NameRule",
    "NormalisedNames",
    "build_universe",
    "lower_punctuation",
    "normalise_desc",
]
