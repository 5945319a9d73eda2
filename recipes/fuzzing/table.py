"""All targets by name; a new reader of foreign bytes is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzzing import datasets, files, runs, texts

if TYPE_CHECKING:
    from fuzzing.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*texts.TARGETS, *datasets.TARGETS, *runs.TARGETS, *files.TARGETS)
}

__all__ = ["TARGETS"]
