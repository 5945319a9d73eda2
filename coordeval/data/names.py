"""How descriptions are compared: one normal form for class names, duplicates and statistics."""

from __future__ import annotations

import unicodedata


def normalise_desc(desc: str) -> str:
    """NFKC, casefold, runs of white space to one space, stripped."""
    return " ".join(unicodedata.normalize("NFKC", desc).casefold().split())


__all__ = ["normalise_desc"]
