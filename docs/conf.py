"""Settings of the documentation site: `make site`.

MyST reads Markdown as code hosts do (CommonMark, GitHub's anchors), so that a page is right in both
places; Sphinx checks every link between pages, anchors included, and refuses a page that no table
of contents holds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


project = "coordeval"
author = "the coordeval authors"
copyright = "the coordeval authors; Apache-2.0"  # noqa: A001 - Sphinx's name for it
version = release = next(
    line.split('"')[1]
    for line in (ROOT / "coordeval" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 5
nitpicky = True
highlight_language = "none"

# Pages of the repository that have a copy in the site, by their path from its root.
COPIES = {
    "CHANGELOG.md": "/project/changelog.md",
    "CONTRIBUTING.md": "/project/contributing.md",
    "fixtures/README.md": "/project/fixtures.md",
}

html_theme = "furo"
html_title = f"{project} {release}"
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options: dict[str, Any] = {"footer_icons": []}


def link_to_copies(_app: Any, _page: str, source: list[str]) -> None:
    """Points links that leave docs/ for a page with a copy in the site to that copy."""
    for path, copy in COPIES.items():
        source[0] = re.sub(rf"\]\((?:\.\./)+{re.escape(path)}", f"]({copy}", source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", link_to_copies)
