"""What every way of matching names is: names without a class in, classes out.

Names are normalised by the protocol's rule before they come here, and so are the classes. A new way
is one new file with one class of this shape, and one line in `stored.READERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MatchedBy = Literal["exact", "synonym", "embedding"]


class NameMatch(NamedTuple):
    """The class (normalised) of a name, and how similar they are (None: not measured)."""

    class_name: str
    similarity: float | None = None


class NameMapper(Protocol):
    """One way of finding the class of a name."""

    @property
    def by(self) -> MatchedBy:
        """What the list of mappings calls this way."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the outcome, as the protocol stores it."""
        ...

    def truth_names(
        self,
        names: Sequence[str],
        listed: Mapping[str, str] | None,
        normalise: Callable[[str], str],
    ) -> Mapping[str, str]:
        """Names of the ground truth that stand for another class: normalised name -> class label.

        `listed` is the dataset's class list (normalised name -> label), None where there is none.
        Empty for a way that leaves the ground truth as it is.
        """
        ...

    def match(
        self, names: Sequence[str], classes: Sequence[str], normalise: Callable[[str], str]
    ) -> Mapping[str, NameMatch]:
        """The classes of those `names` that have one; distinct names, none of which is a class."""
        ...


__all__ = ["MatchedBy", "NameMapper", "NameMatch"]
