"""Character offsets as JavaScript counts them: signs beyond U+FFFF take two units there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def utf16_offsets(text: str, offsets: Sequence[int]) -> list[int]:
    """Offsets in code points to offsets in UTF-16 units; the offsets lie in 0 .. len(text)."""
    if text.isascii() or max(text) <= "\uffff":
        return list(offsets)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    units = np.concatenate([[0], np.cumsum(1 + (points > 0xFFFF))])
    return [int(value) for value in units[np.asarray(offsets, dtype=np.int64)]]


__all__ = ["utf16_offsets"]
