"""A stored protocol's way of matching names, made again; so that runs are re-scored alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.counted import counted
from coordeval.errors import ConfigError, NotComparable
from coordeval.metrics.names.matching import NameMatching
from coordeval.metrics.names.sentence_model import load_sentence_model
from coordeval.metrics.names.synonyms import SynonymNames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordeval.metrics.names.mapper import NameMapper


def _synonyms(raw: Mapping[str, Any], where: str) -> NameMapper:
    return SynonymNames(raw["groups"], source=f"{where}: synonyms")


def _embedding(raw: Mapping[str, Any], where: str) -> NameMapper:
    try:
        mapper = load_sentence_model(str(raw["model"]), threshold=float(raw["threshold"]))
    except ConfigError as error:
        raise ConfigError(
            f"{where}: its names were matched by a sentence model that cannot be had again "
            f"({error}); name the model with --semantic"
        ) from None
    if mapper.sha256 != raw["sha256"]:
        raise NotComparable(
            f"{where}: names were matched by another {raw['model']} than the one here (hash "
            f"{str(raw['sha256'])[:8]} there, {str(mapper.sha256)[:8]} here); score it again"
        )
    return mapper


READERS: dict[str, Callable[[Mapping[str, Any], str], NameMapper]] = {
    "synonym": _synonyms,
    "embedding": _embedding,
}
"""Per kind, what makes the mapper of its stored form again."""


def names_from_json(raw: Mapping[str, Any] | None, *, where: str) -> NameMatching | None:
    """The matching that `NameMatching.to_json` describes; None for None (equal names only).

    Raises NotComparable for a form that this version does not know, and where the embedding model
    of the same name is another one now; what loading it raises.
    """
    if raw is None:
        return None
    try:
        return NameMatching(tuple(READERS[kind](part, where) for kind, part in raw.items()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotComparable(
            f"{where}: how names were matched cannot be read ({error!r}); score it again"
        ) from None


def names_essence(raw: Any) -> Any:
    """A stored matching without labels: a model is known by its hash, wherever it lies here.

    Two that are equal match names alike. What is no matching, or has no hash, stays as it is.
    """
    if not isinstance(raw, dict):
        return raw
    return {
        kind: {key: value for key, value in part.items() if key != "model"}
        if isinstance(part, dict) and part.get("sha256") is not None
        else part
        for kind, part in raw.items()
    }


def names_text(raw: Any) -> str:
    """A stored matching in words: `synonyms (12 classes, 1a2b3c4d)`, `equal names only`."""
    if raw is None:
        return "equal names only"
    if not isinstance(raw, dict) or not all(isinstance(part, dict) for part in raw.values()):
        return "unreadable"
    return ", then ".join(_words(kind, part) for kind, part in raw.items())


def _words(kind: str, part: Mapping[str, Any]) -> str:
    digest = str(part.get("sha256") or "no hash")[:8]
    if kind == "synonym":
        classes = counted(len(part.get("groups") or ()), "class", "classes")
        return f"synonyms ({classes}, {digest})"
    return f"{kind} ({part.get('model')}, {digest}, threshold {part.get('threshold')})"


__all__ = ["READERS", "names_essence", "names_from_json", "names_text"]
