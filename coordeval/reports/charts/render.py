"""Figures to SVG and PNG files, offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.reports.charts.palette import vega_config

if TYPE_CHECKING:
    from coordeval.reports.charts.figure import Figure
    from coordeval.reports.charts.palette import Theme

WIDTH_PX = 720
PNG_SCALE = 2.0
BACKGROUND: dict[str, str] = {"light": "#ffffff", "dark": "#15181c"}
_OFFLINE: list[str] = []


def render(figure: Figure, form: str, theme: Theme = "light") -> bytes:
    """The figure as an `svg` or `png` file with its title, on a plain background.

    PNGs have two pixels per unit. Raises ValueError for a figure without a specification or
    another form.
    """
    import vl_convert

    if figure.spec is None:
        raise ValueError(f"the figure {figure.name!r} has nothing to draw")
    spec = figure.spec | {"title": figure.title, "padding": 16}
    if "vconcat" not in spec:  # the parts of a composed figure have widths of their own
        spec["width"] = WIDTH_PX
    config: dict[str, Any] = vega_config(theme) | {"background": BACKGROUND[theme]}
    # Data stand in the specification; an empty list of allowed addresses keeps it off the network.
    options: dict[str, Any] = {"config": config, "allowed_base_urls": _OFFLINE}
    if form == "svg":
        return vl_convert.vegalite_to_svg(spec, **options).encode()
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=PNG_SCALE, **options))
    raise ValueError(f"unknown form {form!r}: svg or png")


__all__ = ["PNG_SCALE", "WIDTH_PX", "render"]
