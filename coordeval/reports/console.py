"""Consoles: results on stdout, progress and logs on stderr, plain where nobody looks."""

from __future__ import annotations

import sys

from rich.console import Console

PLAIN_WIDTH = 110
"""Columns where the output is not a terminal (files, pipes, CI logs)."""


def result_console() -> Console:
    """The console for results; colours only on a terminal and without NO_COLOR."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, emoji=False, markup=False)


def progress_console() -> Console:
    """The console for progress and notes."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False)


__all__ = ["PLAIN_WIDTH", "progress_console", "result_console"]
