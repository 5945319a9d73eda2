"""How an overlay shows what became of an object: colour, dash pattern, and words.

Colours are those of Okabe and Ito (2008), told apart with every common colour blindness; the dash
pattern says the same again, so that no meaning rests on colour alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from coordeval.exchange.scored_objects import ScoredObject


class OverlayStyle(NamedTuple):
    """`dash` alternates drawn and blank lengths in line widths; empty is a solid line."""

    words: str
    colour: str
    dash: tuple[float, ...]
    weight: float
    fill: float


STYLES: dict[str, OverlayStyle] = {
    "gt": OverlayStyle("ground truth, found", "#009E73", (4.0, 3.0), 0.8, 0.0),
    "missed": OverlayStyle("ground truth, missed", "#F0E442", (4.0, 3.0), 1.2, 0.10),
    "right": OverlayStyle("right", "#0072B2", (), 1.5, 0.0),
    "wrong": OverlayStyle("wrong", "#D55E00", (), 1.4, 0.08),
    "duplicate": OverlayStyle("duplicate", "#CC79A7", (1.0, 1.6), 1.3, 0.0),
    "dropped": OverlayStyle("dropped record", "#E69F00", (5.0, 2.0, 1.0, 2.0), 1.3, 0.08),
    "other": OverlayStyle("crowd or not scored", "#BBBBBB", (2.0, 2.0), 0.8, 0.0),
}
"""Categories in the order of the legend."""
DRAW_ORDER = ("other", "right", "wrong", "dropped", "duplicate", "gt", "missed")
"""Later ones lie on top: dashes over solid lines, so that both are seen where they coincide."""


DASH_UNIT = 1.2
"""Line widths per unit of a dash pattern."""
CASING = 0.8
"""Every line has a dark rim, seen on any picture: this many line widths wider in all."""


def category_of(obj: ScoredObject) -> str:
    """The category that an object is drawn as.

    A copy that is not itself right is a duplicate, whatever else it is; dropped comes first.
    """
    if obj.role == "gt":
        return {"matched": "gt", "missed": "missed"}.get(obj.verdict, "other")
    if obj.verdict == "dropped":
        return "dropped"
    if obj.verdict == "right":
        return "right"
    if obj.copy is not None:
        return "duplicate"
    return "wrong" if obj.verdict == "wrong" else "other"


__all__ = ["CASING", "DASH_UNIT", "DRAW_ORDER", "STYLES", "OverlayStyle", "category_of"]
