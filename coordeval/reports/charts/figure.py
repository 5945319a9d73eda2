"""What a figure is: a Vega-Lite specification with its words, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
HEIGHT_PX = 260


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: `lead` says how to read it, `alt` what it shows in numbers.

    `spec` is None where the runs hold nothing to draw; `missing` then says why.
    """

    name: str
    title: str
    lead: str
    alt: str = ""
    spec: dict[str, Any] | None = None
    missing: str = ""

    def to_json(self) -> dict[str, Any]:
        """What the page needs to draw it."""
        return {"name": self.name, "alt": self.alt, "spec": self.spec}


def base_spec(title: str, alt: str, rows: Sequence[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    """A specification over inline rows that fills its container; `parts` are its other keys."""
    return {
        "$schema": VEGA_LITE,
        "description": f"{title}. {alt}",
        "width": "container",
        "height": HEIGHT_PX,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": list(rows)},
        **parts,
    }


def run_colour(labels: Sequence[str]) -> dict[str, Any]:
    """The colour encoding of runs, in the order given; no legend for a single one."""
    scale = {"domain": list(labels)}
    if len(labels) == 1:
        return {"field": "run", "type": "nominal", "scale": scale, "legend": None}
    return {"field": "run", "type": "nominal", "scale": scale, "title": None}


__all__ = ["HEIGHT_PX", "VEGA_LITE", "Figure", "base_spec", "run_colour"]
