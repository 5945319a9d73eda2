"""Commands of coordeval as recipes run them: shown as a person would type them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from coordeval.reports.console import progress_console

if TYPE_CHECKING:
    from pathlib import Path


def coordeval(*arguments: str | Path) -> None:
    """Run a command with this Python; its failure ends the recipe with its exit code."""
    progress_console().print(f"$ coordeval {' '.join(map(str, arguments))}", style="bold")
    command = [sys.executable, "-m", "coordeval", *map(str, arguments)]
    done = subprocess.run(command, check=False)  # noqa: S603 - our own command
    if done.returncode:
        sys.exit(done.returncode)


__all__ = ["coordeval"]
