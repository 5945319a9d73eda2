"""A name is a class where both are written alike (after normalising); what comes first, always."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.metrics.names.mapper import NameMatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.metrics.names.mapper import MatchedBy


class ExactNames:
    """Equal normalised names."""

    by: MatchedBy = "exact"

    def to_json(self) -> dict[str, Any]:
        """Nothing: there is nothing to set."""
        return {}

    def truth_names(
        self,
        names: Sequence[str],  # noqa: ARG002 - the interface's
        listed: Mapping[str, str] | None,  # noqa: ARG002
        normalise: Callable[[str], str],  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Every name of the ground truth is itself."""
        return {}

    def match(
        self,
        names: Sequence[str],
        classes: Sequence[str],
        normalise: Callable[[str], str],  # noqa: ARG002 - the interface's
    ) -> Mapping[str, NameMatch]:
        """The names that are classes."""
        known = set(classes)
        return {name: NameMatch(name) for name in names if name in known}


__all__ = ["ExactNames"]
