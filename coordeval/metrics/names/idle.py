"""Groups of synonyms that do nothing: none of their names is a class of the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.metrics.classes import NAME_RULES
from coordeval.metrics.names.synonyms import SynonymNames

if TYPE_CHECKING:
    from coordeval.metrics.classes import ClassUniverse
    from coordeval.metrics.protocols import Protocol

MAX_NAMED = 5


def idle_groups(rules: Protocol | None, universe: ClassUniverse) -> tuple[str, ...]:
    """One sentence per list of synonyms that holds such groups: file, groups and their lines.

    `rules` are those of the score, `universe` its classes. Empty where every group has a class,
    where names only had to be equal, and where there are no classes at all.
    """
    if rules is None or rules.names is None or not universe.names:
        return ()
    out = []
    for mapper in rules.names.mappers:
        if isinstance(mapper, SynonymNames):
            idle = mapper.without_class(universe.names, NAME_RULES[rules.name_rule])
            if idle:
                out.append(_sentence(mapper, idle))
    return tuple(out)


def _sentence(mapper: SynonymNames, idle: list[str]) -> str:
    named = [
        f"{_short(name)} (line {mapper.lines[name]})" if name in mapper.lines else _short(name)
        for name in idle[:MAX_NAMED]
    ]
    more = f" and {len(idle) - MAX_NAMED} more" if len(idle) > MAX_NAMED else ""
    what = "a group of synonyms holds" if len(idle) == 1 else f"{len(idle)} groups of synonyms hold"
    return f"{mapper.source}: {what} no class of the dataset: {', '.join(named)}{more}"


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


__all__ = ["MAX_NAMED", "idle_groups"]
