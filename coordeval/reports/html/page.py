"""The page itself: the template filled, scripts and styles inline, and nothing else allowed."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from coordeval.reports.html.embed import script_json
from coordeval.reports.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

FIGURE_SCRIPTS = ("core.js", "theme.js", "charts.js")
"""What a page without runs needs."""
GALLERY_SCRIPTS = (
    "store.js",
    "filters.js",
    "overlay.js",
    "rawtext.js",
    "gallery.js",
    "keyboard.js",
)
SCRIPTS = (*FIGURE_SCRIPTS, *GALLERY_SCRIPTS)
STYLE = "page.css"
TEMPLATE = "page.html.j2"


def render_page(
    context: Mapping[str, Any], data: Mapping[str, Any], *, scripts: tuple[str, ...] = SCRIPTS
) -> str:
    """The whole page. `context` fills the template; `data` maps ids of JSON elements to values.

    Scripts run by their hash alone and the network is closed to the page, so that text which
    became markup by some fault could still neither run nor fetch anything.
    """
    library, ours, style = chart_library(), own_script(scripts), asset(STYLE)
    environment = Environment(
        loader=FunctionLoader(asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["visible"] = printable
    template = environment.get_template(TEMPLATE)
    return template.render(
        **context,
        policy=content_policy(scripts=(library, ours), styles=(style,)),
        data={name: script_json(value) for name, value in data.items()},
        # Our own files and the library, neither of which can hold a closing tag (checked there).
        style=Markup(style),  # noqa: S704
        library=Markup(library),  # noqa: S704
        script=Markup(ours),  # noqa: S704
        licence=asset("vega-licence.txt"),
    )


def content_policy(*, scripts: tuple[str, ...], styles: tuple[str, ...]) -> str:
    """A Content-Security-Policy that allows these inline scripts and styles and data images."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_source, scripts))}",
            f"style-src {' '.join(map(_source, styles))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


@cache
def asset(name: str) -> str:
    """The text of one file of the `assets` folder."""
    folder = resources.files("coordeval.reports.html").joinpath("assets")
    return folder.joinpath(name).read_text(encoding="utf-8")


@cache
def own_script(names: tuple[str, ...] = SCRIPTS) -> str:
    """Our scripts as one, in their order of use."""
    text = "\n".join(asset(name) for name in names)
    return _inline_safe(f'"use strict";\n{text}')


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return _inline_safe(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _inline_safe(text: str) -> str:
    """The text, once it is sure that it can stand in a script element and keep its hash."""
    lowered = text.lower()
    assert not any(sign in lowered for sign in ("</script", "<script", "<!--", "\r", "\0"))
    return text


__all__ = [
    "FIGURE_SCRIPTS",
    "SCRIPTS",
    "asset",
    "chart_library",
    "content_policy",
    "own_script",
    "render_page",
]
