"""Telemetry from the few most probable tokens, where an engine gives no more than those.

The mass on the coordinates is then known to lie between what is seen and that plus all that is
not: see `SlotReading.mass_bound`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from coordeval.decoding.slots import find_slots
from coordeval.records import SlotReading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordeval.decoding.slots import SlotPlace
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect


def read_slots(
    token_ids: Sequence[int],
    tops: Sequence[Mapping[int, float]],
    *,
    table: TokenTable,
    dialect: Dialect,
    text_of: Callable[[int], str],
) -> list[SlotReading]:
    """One reading per coordinate place of an answer, in the order of its tokens.

    `tops[i]` maps the most probable tokens before token i, best first and none left out between
    them, to their natural-log probabilities; `text_of` gives the text of a token id. No places
    give an empty list.
    """
    return [
        read_slot(place, tops[place.token], table, text_of)
        for place in find_slots(token_ids, table, dialect)
    ]


def read_slot(
    place: SlotPlace, top: Mapping[int, float], table: TokenTable, text_of: Callable[[int], str]
) -> SlotReading:
    """What one position's most probable tokens say about a coordinate place.

    What is not among them is not known: None. The entropy of the bins never is.
    """
    best_bin: tuple[int, float] | None = None
    best_other: tuple[int, float] | None = None
    coord_mass = other_mass = 0.0
    for token_id, logprob in top.items():
        probability = math.exp(logprob)
        bin_index = table.bin_of(token_id)
        if bin_index is None:
            other_mass += probability
            if best_other is None or probability > best_other[1]:
                best_other = token_id, probability
        else:
            coord_mass += probability
            if best_bin is None or probability > best_bin[1]:
                best_bin = bin_index, probability
    coord_mass = min(coord_mass, 1.0)
    return SlotReading(
        token=place.token,
        record=place.record,
        slot=place.slot,
        kind=place.kind,
        written_id=place.written_id,
        written_bin=place.written_bin,
        coord_mass=coord_mass,
        mass_bound=max(0.0, 1.0 - coord_mass - other_mass),
        top_bin=None if best_bin is None else best_bin[0],
        top_prob=None if best_bin is None else best_bin[1],
        entropy=None,
        other_id=None if best_other is None else best_other[0],
        other_text=None if best_other is None else text_of(best_other[0]),
        other_prob=None if best_other is None else best_other[1],
    )


__all__ = ["read_slot", "read_slots"]
