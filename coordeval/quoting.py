"""Texts from outside as error lines quote them: one line, not long, and safe to print."""

from __future__ import annotations


def shown(text: str, limit: int = 120) -> str:
    """A text from outside in quotes, on one line and cut to `limit` characters.

    Control characters and lone surrogates are written as escapes; other letters stay as they are.
    """
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return repr(cut).encode("utf-8", "backslashreplace").decode("utf-8")


__all__ = ["shown"]
