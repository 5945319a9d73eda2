"""All the ways of matching names that a protocol allows, in order, and what they found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordeval.metrics.classes import ClassUniverse, build_universe
from coordeval.metrics.names.exact import ExactNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coordeval.metrics.names.mapper import MatchedBy, NameMapper
    from coordeval.records import Category


@dataclass(frozen=True, slots=True)
class FoundName:
    """How a name found its class; `similarity` None where it was not measured."""

    by: MatchedBy
    similarity: float | None


EXACT = FoundName("exact", None)


@dataclass(frozen=True, slots=True)
class NameMatching:
    """Ways that are tried in order for names that are no class; exact names always come first."""

    mappers: tuple[NameMapper, ...]

    def to_json(self) -> dict[str, Any]:
        """Per way, everything that decides the outcome, in the order of trying."""
        return {mapper.by: mapper.to_json() for mapper in self.mappers}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassNames:
    """Classes, and the class code of every name that has one.

    `codes` maps normalised names (of classes, ground truth and predictions) to class codes.
    `found` says how those names got theirs that are not written like their class.
    """

    universe: ClassUniverse
    codes: Mapping[str, int]
    found: Mapping[str, FoundName] = field(default_factory=dict)

    def how(self, name: str) -> FoundName | None:
        """How a normalised name found its class; None where it has none."""
        return self.found.get(name, EXACT) if name in self.codes else None


def find_classes(
    matching: NameMatching | None,
    *,
    categories: Sequence[Category] | None,
    truth: Iterable[str],
    predicted: Iterable[str],
    normalise: Mapping[str, str],
    category_ids: dict[str, int],
) -> ClassNames:
    """The class universe, and which names stand for its classes.

    `truth` and `predicted` are descriptions as written (repeats do no harm), `normalise` brings
    them to the protocol's form, `category_ids` maps normalised names of the ground truth to the
    ids that it carries. Without `matching` only equal names match. Raises what the ways raise.
    """
    truth = list(dict.fromkeys(truth))
    mappers = matching.mappers if matching is not None else ()
    rule = normalise.__getitem__
    listed = {rule(category.name): category.name for category in reversed(categories or ())}
    renamed: dict[str, str] = {}
    found: dict[str, FoundName] = {}
    for mapper in mappers:
        names = sorted({rule(desc) for desc in truth} - renamed.keys())
        labels = mapper.truth_names(names, listed or None, rule)
        renamed |= labels
        found |= {name: FoundName(mapper.by, None) for name in labels if rule(labels[name]) != name}
    ids = {rule(renamed.get(name, name)): number for name, number in reversed(category_ids.items())}
    universe = build_universe(
        categories, (renamed.get(rule(desc), desc) for desc in truth), rule, ids
    )
    codes = universe.codes()
    codes |= {name: codes[rule(label)] for name, label in renamed.items()}
    if mappers:
        names = sorted({rule(desc) for desc in predicted})
        for mapper in (ExactNames(), *mappers):
            matches = mapper.match(names, universe.names, rule)
            codes |= {name: codes[match.class_name] for name, match in matches.items()}
            found |= {
                name: FoundName(mapper.by, match.similarity) for name, match in matches.items()
            }
            names = [name for name in names if name not in matches]
    return ClassNames(universe=universe, codes=codes, found=found)


__all__ = ["EXACT", "ClassNames", "FoundName", "NameMatching", "find_classes"]
