"""Counts with their noun, for people: 1 image, 2 images, 10,000 images."""

from __future__ import annotations


def counted(count: float | None, noun: str, plural: str | None = None) -> str:
    """A whole number and its noun in the right number; "-" where there is no value.

    `plural` is needed where it is not the noun and an "s".
    """
    if count == 1:
        return f"1 {noun}"
    return f"{'-' if count is None else f'{int(count):,}'} {plural or f'{noun}s'}"


__all__ = ["counted"]
