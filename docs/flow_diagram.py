"""The architecture diagram: images/overview.svg, drawn from the lists below.

A plain SVG: it reads the same on a code host, in the built site and in print, and needs no script.
"""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
WIDTH, HEIGHT = 1170, 550
FONT = "font-family='system-ui, sans-serif'"
MODEL, PRODUCT, PURE, PEOPLE = "#fde7d3", "#fff3b0", "#dceefb", "#e3f4e1"


class Box(NamedTuple):
    """A box: its place and size in px, its title, the lines under it and its colour."""

    x: int
    y: int
    w: int
    h: int
    title: str
    lines: tuple[str, ...] = ()
    fill: str = "#ffffff"


BOXES = (
    Box(20, 30, 190, 76, "Images + ground truth", ("JSONL or COCO", "coordeval data")),
    Box(20, 150, 190, 76, "Checkpoint", ("+ 1,000 coordinate tokens", "coordeval vocab expand")),
    Box(
        *(250, 60, 190, 136, "rollout"),
        (
            "engines: hf, vllm, server,",
            "ray, replay",
            "control: grammar, loop",
            "guard, slot telemetry",
        ),
        MODEL,
    ),
    Box(
        *(480, 60, 200, 136, "RUN DIRECTORY"),
        ("verbatim text, token ids,", "raw log-probabilities,", "finish reason,", "all settings"),
        PRODUCT,
    ),
    Box(
        *(720, 60, 190, 136, "score"),
        (
            "parse, match, count;",
            "one catalogue of metrics,",
            "under a named protocol;",
            "no torch",
        ),
        PURE,
    ),
    Box(950, 20, 200, 60, "report, inspect", ("for people",), PEOPLE),
    Box(950, 98, 200, 60, "compare, attribute", ("paired intervals, causes",), PEOPLE),
    Box(950, 176, 200, 60, "check", ("gates for CI",), PEOPLE),
    Box(
        *(20, 280, 190, 96, "train"),
        ("stage 1: exact losses", "stage 2: own context (A),", "own rollouts (B)"),
        MODEL,
    ),
    Box(
        *(250, 280, 190, 96, "RolloutEvalCallback"),
        ("the same evaluator inside", "any Hugging Face Trainer"),
        MODEL,
    ),
    Box(
        480,
        280,
        200,
        96,
        "probe",
        ("teacher forcing on truth and", "rollouts, side by side"),
        MODEL,
    ),
    Box(
        *(720, 280, 190, 96, "import, export"),
        ("other tools' dumps in,", "COCO, FiftyOne, ... out"),
        PURE,
    ),
    Box(950, 280, 200, 96, "dynamics", ("training logs: endings,", "turning points"), PEOPLE),
)

# Polylines with an arrow head at their end.
ARROWS = (
    ((210, 68), (230, 68), (230, 110), (250, 110)),
    ((210, 188), (230, 188), (230, 146), (250, 146)),
    ((440, 128), (480, 128)),
    ((680, 128), (720, 128)),
    ((910, 100), (930, 100), (930, 50), (950, 50)),
    ((910, 128), (950, 128)),
    ((910, 156), (930, 156), (930, 206), (950, 206)),
    ((115, 280), (115, 226)),
    ((210, 328), (250, 328)),
    ((345, 280), (345, 240), (530, 240), (530, 196)),
    ((580, 280), (580, 196)),
    ((815, 280), (815, 240), (630, 240), (630, 196)),
)

LEGEND = (
    (MODEL, "touches a model"),
    (PRODUCT, "the product"),
    (PURE, "a pure function"),
    (PEOPLE, "what you see"),
)


def flow_diagram() -> str:
    """The whole SVG; the same bytes every time."""
    layer_lines = textwrap.wrap(" › ".join(layers()), 150)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        (
            "<title>coordeval: from images and a checkpoint to a run directory, and from it to all "
            "numbers</title>"
        ),
        (
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#555"/>'
            "</marker></defs>"
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *(_arrow(points) for points in ARROWS),
        *(_box(box) for box in BOXES),
        _legend(),
        _text(
            20,
            480,
            "Layers, checked by import-linter; each imports only from its right:",
            14,
            bold=True,
        ),
        *(_text(20, 506 + 22 * n, line, 14) for n, line in enumerate(layer_lines)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def layers() -> list[str]:
    """The layers of import-linter's contract in pyproject.toml, by their bare names, top first."""
    table = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = (item for item in table["contracts"] if item["type"] == "layers")
    return [layer.replace(" | ", ", ") for layer in contract["layers"]]


def _box(box: Box) -> str:
    lines = [
        (
            f'<rect x="{box.x}" y="{box.y}" width="{box.w}" height="{box.h}" rx="8" '
            f'fill="{box.fill}" stroke="#555"/>'
        ),
        _text(box.x + 12, box.y + 24, box.title, 16, bold=True),
    ]
    lines += [_text(box.x + 12, box.y + 46 + 20 * n, t, 14) for n, t in enumerate(box.lines)]
    return "\n".join(lines)


def _arrow(points: tuple[tuple[int, int], ...]) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    style = 'fill="none" stroke="#555" stroke-width="1.5" marker-end="url(#head)"'
    return f'<polyline points="{path}" {style}/>'


def _text(x: int, y: int, text: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    family = FONT.replace("'", '"')
    return f'<text x="{x}" y="{y}" {family} font-size="{size}"{weight}>{escape(text)}</text>'


def _legend() -> str:
    lines = []
    for number, (fill, text) in enumerate(LEGEND):
        x = 20 + 180 * number
        lines.append(f'<rect x="{x}" y="420" width="18" height="18" fill="{fill}" stroke="#555"/>')
        lines.append(_text(x + 26, 434, text, 14))
    return "\n".join(lines)
