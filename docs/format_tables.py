"""The tables of docs/formats.md that code knows best, written between marker comments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.coords import CoordFrame

PAGE = Path(__file__).resolve().parent / "formats.md"
MARKED = re.compile(
    r"(?P<open><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<close>\n<!-- end of generated -->)",
    re.DOTALL,
)

COORDINATES = {
    "token": "bare tokens",
    "quoted_token": "tokens as JSON strings",
    "bin_int": "whole numbers: bins",
    "pixel_int": "whole numbers: pixels",
}
EXTENTS = {
    "size_minus_one": "(size - 1)",
    "size": "size",
    "longer_side": "longer side (image padded to a square at the right and the bottom)",
}


def formats_page() -> str:
    """formats.md as it stands, its marked tables made anew; KeyError for an unknown mark."""
    return MARKED.sub(
        lambda match: match["open"] + TABLES[match["name"]]().rstrip() + match["close"],
        PAGE.read_text(encoding="utf-8"),
    )


def frames_table() -> str:
    """The frames by name, with the formula of each."""
    from coordeval.coords import DEFAULT_FRAME, FRAMES

    lines = ["| name | pixel of bin k |", "|---|---|"]
    for name, frame in FRAMES.items():
        default = " (default)" if name == DEFAULT_FRAME else ""
        lines.append(f"| `{name}`{default} | {_formula(frame)} |")
    return "\n".join(lines)


def _formula(frame: CoordFrame) -> str:
    return f"k / {frame.denominator} x {EXTENTS[frame.extent]}"


def dialects_table() -> str:
    """Our own dialects, each with one box as the canonical writer writes it."""
    from coordeval.data.canonical import render_text
    from coordeval.parsers.dialects import DEFAULT_DIALECT, DIALECTS

    lines = ["| dialect | coordinates | one box |", "|---|---|---|"]
    for name, dialect in DIALECTS.items():
        default = " (default)" if name == DEFAULT_DIALECT else ""
        text = render_text([("cat", "bbox_2d", (1, 2, 3, 4))], dialect)
        kind = COORDINATES[dialect.coordinates]
        lines.append(f"| `{name}`{default} | {kind} | {_in_a_cell(text)} |")
    return "\n".join(lines)


def _in_a_cell(text: str) -> str:
    """Code inside a table: a bar is escaped, as GitHub and MyST both read it."""
    return "`" + text.replace("|", "\\|") + "`"


def config_keys_table() -> str:
    """The keys of coordeval.toml, as the loader knows them."""
    from coordeval import config

    def names(keys: tuple[str, ...]) -> str:
        return ", ".join(f"`{key}`" for key in keys)

    return "\n".join(
        [
            "| where | keys |",
            "|---|---|",
            f"| at the top, paths | {names(config._PATH_KEYS)} |",  # noqa: SLF001 - only shown
            f"| at the top, names | {names(config._STRING_KEYS)} |",  # noqa: SLF001
            f"| `[decode]` | {names(tuple(config.DECODE_TYPES))} |",
            "| `[gates]` | keys of metrics, see [ci.md](ci.md) |",
        ]
    )


TABLES: dict[str, Callable[[], str]] = {
    "frames": frames_table,
    "dialects": dialects_table,
    "config-keys": config_keys_table,
}
