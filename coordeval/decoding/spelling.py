"""Whether a vocabulary can spell a constrained answer at all, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.decoding.descriptions import spelled_names
from coordeval.errors import CheckpointError

if TYPE_CHECKING:
    from coordeval.decoding.settings import ConstraintSettings
    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect


def check_spelling(settings: ConstraintSettings, dialect: Dialect, table: TokenTable) -> None:
    """Raise CheckpointError where a state could be reached from which no token leads on.

    Every byte that may be the only one possible must be a token of its own, and there must be an
    end token.
    """
    if not any(0 <= token_id < table.vocab_size for token_id in table.end_ids):
        raise CheckpointError("the checkpoint names no end token: a constrained answer cannot end")
    pieces = (table.ordinary_bytes(token_id) or b"" for token_id in range(table.vocab_size))
    spelled = {piece[0] for piece in pieces if len(piece) == 1}
    missing = sorted(_needed(settings, dialect) - spelled)
    if missing:
        shown = ", ".join(repr(chr(b)) if b < 128 else f"0x{b:02X}" for b in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise CheckpointError(
            f"--constrain {settings.mode} is impossible with this tokenizer: no ordinary token "
            f"spells {shown}{more} alone; start from a base with a byte-level tokenizer and run: "
            "coordeval vocab expand BASE OUT"
        )


def _needed(settings: ConstraintSettings, dialect: Dialect) -> set[int]:
    quote = '"' if dialect.coordinates == "quoted_token" else ""
    if settings.mode == "coords":
        return set(f",]\n{quote}".encode())  # a line break ends what a carriage return began
    text = '{"desc":,[]}' + (" " if settings.separators == "spaced" else "")
    text += "".join(settings.geometries)
    text += "object_0123456789" if dialect.container == "map" else "objects"
    needed = set(text.encode())
    if settings.class_names is None:
        # A token may end within a character; whatever it began, these bytes end it.
        return needed | set(range(0x80, 0xC0))
    return needed.union(*spelled_names(settings.class_names))


__all__ = ["check_spelling"]
