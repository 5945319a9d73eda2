"""What is taught at each token of a target, from the parts that its text is made of.

A part is a stretch of the text, say one record with the separator before it. A token that spans a
border belongs to the part that it leads into: `]},` goes on, `]}]}` closes. Shapes: T tokens with
the end token, M boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from coordeval.training.data.labels import (
    COORDINATE,
    DESCRIPTION,
    END,
    IGNORE,
    IGNORE_LABEL,
    STRUCTURE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from coordeval.training.stage2.target_context import TargetContext
    from coordeval.training.stage2.token_text import TokenText

_NO_PART = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`text[start:end]`, which is taught.

    `struct` weighs its tokens outside of the description. `description` is the character range of
    that, None without one, and `desc` its weight; where it is not `true_desc`, tokens that hold any
    of it are not taught at all. `slots` are tokens of coordinates, `bins` what is taught there;
    both empty for none. `is_box`: four slots of a box.
    """

    start: int
    end: int
    struct: float
    desc: float = 0.0
    description: tuple[int, int] | None = None
    true_desc: bool = True
    slots: tuple[int, ...] = ()
    bins: tuple[int, ...] = ()
    is_box: bool = False


class Taught(NamedTuple):
    """A target: ids (T), the end token last, and what is taught at each of them.

    `labels_T` (int64) are the ids, true bins at coordinates, -100 where nothing is taught;
    `kinds_T` (uint8) as in stage 1, IGNORE where nothing is taught. `weights_T` (float32) weigh the
    text; they are 0 at coordinates, which have no part in it. `boxes_M4`: tokens of the coordinates
    of each taught box.
    """

    token_ids: list[int]
    labels_T: NDArray[np.int64]
    kinds_T: NDArray[np.uint8]
    weights_T: NDArray[np.float32]
    boxes_M4: NDArray[np.int64]


def taught(
    written: TokenText, parts: Sequence[Part], context: TargetContext, *, end_weight: float
) -> Taught:
    """What is taught of a text made of `parts`, and its end; what no part holds is not taught.

    Tokens with a weight of 0 are not taught. Coordinate tokens are taught in slots alone, and
    whatever holds them, the weight of text has no bearing on them.
    """
    num = len(written)
    kinds_T = np.full(num + 1, IGNORE, dtype=np.uint8)
    weights_T = np.zeros(num + 1, dtype=np.float32)
    labels_T = np.full(num + 1, IGNORE_LABEL, dtype=np.int64)
    kinds_T[:num], weights_T[:num] = _text_tokens(written, parts)
    ids_T = np.array([*written.token_ids, context.end_id], dtype=np.int64)
    kinds_T[num], weights_T[num] = END, end_weight
    kinds_T[context.table.coords.bins_of(ids_T) >= 0] = IGNORE
    kinds_T[weights_T <= 0] = IGNORE
    weights_T[kinds_T == IGNORE] = 0
    labels_T[kinds_T != IGNORE] = ids_T[kinds_T != IGNORE]
    boxes = []
    for part in parts:
        slots = np.array(part.slots, dtype=np.int64)
        kinds_T[slots] = COORDINATE
        labels_T[slots] = [context.table.coords.token_ids[value] for value in part.bins]
        if part.is_box and part.slots:
            boxes.append(part.slots)
    return Taught(
        token_ids=[int(token_id) for token_id in ids_T],
        labels_T=labels_T,
        kinds_T=kinds_T,
        weights_T=weights_T,
        boxes_M4=np.array(boxes, dtype=np.int64).reshape(-1, 4),
    )


def _text_tokens(
    written: TokenText, parts: Sequence[Part]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Kinds and weights of the tokens, coordinates not yet told apart."""
    part_of_byte = np.full(written.num_bytes, _NO_PART, dtype=np.int64)
    in_description = np.zeros(written.num_bytes, dtype=bool)
    for number, part in enumerate(parts):
        part_of_byte[written.byte_at(part.start) : written.byte_at(part.end)] = number
        if part.description is not None:
            first, behind = map(written.byte_at, part.description)
            in_description[first:behind] = True
    kinds = np.full(len(written), IGNORE, dtype=np.uint8)
    weights = np.zeros(len(written), dtype=np.float32)
    for token, (start, end) in enumerate(
        zip(written.token_starts[:-1], written.token_starts[1:], strict=True)
    ):
        number = int(part_of_byte[end - 1]) if end > start else _NO_PART
        if number == _NO_PART:
            continue
        part = parts[number]
        if not in_description[start:end].any():
            kinds[token], weights[token] = STRUCTURE, part.struct
        elif in_description[start:end].all():
            kinds[token] = DESCRIPTION
            weights[token] = part.desc if part.true_desc else 0.0
        else:
            of_this_part = part_of_byte[start:end] == number
            holds_its_own = bool((in_description[start:end] & of_this_part).any())
            kinds[token] = STRUCTURE
            weights[token] = part.struct if part.true_desc or not holds_its_own else 0.0
    return kinds, weights


__all__ = ["Part", "Taught", "taught"]
