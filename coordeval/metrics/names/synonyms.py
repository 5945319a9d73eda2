"""Names by a list of synonyms: groups of names of which each stands for one class.

A group holds in both directions. Its class is the one of its names that the dataset's class list
holds; where there is no list, or it holds none of them, it is the group's first (canonical) name.
Names of the ground truth are brought to their class as well.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from coordeval.errors import ConfigError
from coordeval.jsonl import dump_line
from coordeval.metrics.names.mapper import NameMatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.metrics.names.mapper import MatchedBy


class SynonymNames:
    """Groups of synonyms: canonical name -> the other names, as written.

    `source` is where they were read, `lines` on which line each group stands, for messages. Raises
    ConfigError where a name stands for two classes, and for blank names; names are compared by the
    protocol's rule once it is known, so that `match` and `truth_names` raise it too.
    """

    by: MatchedBy = "synonym"

    def __init__(
        self,
        groups: Mapping[str, Sequence[str]],
        *,
        source: str = "synonyms",
        lines: Mapping[str, int] | None = None,
    ) -> None:
        self.groups = {name: tuple(synonyms) for name, synonyms in groups.items()}
        self.source = source
        self.lines = dict(lines or {})
        for name, synonyms in self.groups.items():
            if not all(part.strip() for part in (name, *synonyms)):
                raise ConfigError(f"{source}: a name of {name!r} is blank")
        if not any(self.groups.values()):
            raise ConfigError(f"{source}: holds no synonym")

    @property
    def sha256(self) -> str:
        """Hash of the groups, whatever their order and that of the synonyms in each."""
        ordered = {name: sorted(set(self.groups[name])) for name in sorted(self.groups)}
        return hashlib.sha256(dump_line(ordered)).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The groups themselves, so that a score says all that made it."""
        ordered = {name: sorted(set(self.groups[name])) for name in sorted(self.groups)}
        return {"sha256": self.sha256, "groups": ordered}

    def truth_names(
        self,
        names: Sequence[str],
        listed: Mapping[str, str] | None,
        normalise: Callable[[str], str],
    ) -> Mapping[str, str]:
        """Names of the ground truth that a group holds -> the label of the group's class.

        Raises ConfigError where two names of a group are classes of the dataset's list.
        """
        wanted = set(names)
        listed = listed or {}
        out: dict[str, str] = {}
        for canonical, members in self._members(normalise).items():
            held = [name for name in members if name in listed]
            if len(held) > 1:
                raise ConfigError(
                    f"{self.source}: {_written(members[held[0]])} and {_written(members[held[1]])} "
                    f"are synonyms here and two classes of the dataset; take one of them out of "
                    f"{_written(canonical)}"
                )
            label = listed[held[0]] if held else canonical
            out |= {name: label for name in members if name in wanted}
        return out

    def match(
        self, names: Sequence[str], classes: Sequence[str], normalise: Callable[[str], str]
    ) -> Mapping[str, NameMatch]:
        """Names in a group of which a name is a class."""
        known, wanted = set(classes), set(names)
        out: dict[str, NameMatch] = {}
        for members in self._members(normalise).values():
            target = next((name for name in members if name in known), None)
            if target is not None:
                out |= {name: NameMatch(target) for name in members if name in wanted}
        return {name: out[name] for name in names if name in out}

    def without_class(self, classes: Sequence[str], normalise: Callable[[str], str]) -> list[str]:
        """Canonical names (as written) of the groups of which no name is a class."""
        known = set(classes)
        groups = self._members(normalise).items()
        return [canonical for canonical, members in groups if known.isdisjoint(members)]

    def _members(self, normalise: Callable[[str], str]) -> dict[str, dict[str, str]]:
        """Per canonical name (as written): normalised name -> name as written, canonical first."""
        out: dict[str, dict[str, str]] = {}
        group_of: dict[str, str] = {}
        for canonical, synonyms in self.groups.items():
            members: dict[str, str] = {}
            for written in (canonical, *synonyms):
                name = normalise(written)
                other = group_of.setdefault(name, canonical)
                if other != canonical:
                    raise ConfigError(
                        f"{self.source}: {_written(written)} stands for both {_written(other)} "
                        f"and {_written(canonical)}; keep it in one place"
                    )
                members.setdefault(name, written)
            out[canonical] = members
        return out


def _written(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


__all__ = ["SynonymNames"]
