"""Every link of the Markdown pages: inside ones must lead somewhere, outside ones are listed.

Run: python docs/page_links.py: prints each outside address with the pages that name it (nothing is
fetched), and ends with 1 where an inside link leads nowhere. It needs nothing but Python, and
judges as a code host does: files, and GitHub's anchors of headings.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
BARE = re.compile(r"<(https?://[^>\s]+)>")
HEADING = re.compile(r"^#{1,6} +(.+?) *#* *$", re.MULTILINE)


class Link(NamedTuple):
    """One link: the page it stands in, and its target as written."""

    page: Path
    target: str


def pages() -> list[Path]:
    """All Markdown pages of the repository that people read, by path."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    return [*found, *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "fixtures").glob("*.md"))]


def links_of(page: Path) -> list[Link]:
    """The links of a page in their order, those inside code and comments left out."""
    text = page.read_text(encoding="utf-8")
    for pattern in (COMMENT, FENCE, CODE):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n") or "x", text)
    return [Link(page, target) for target in (*LINK.findall(text), *BARE.findall(text))]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; repeated ones get -1, -2, ..."""
    text = FENCE.sub("", COMMENT.sub("", page.read_text(encoding="utf-8")))
    out: set[str] = set()
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        name, number = slug, 0
        while name in out:
            number += 1
            name = f"{slug}-{number}"
        out.add(name)
    return out


def fault_of(link: Link) -> str | None:
    """Why an inside link leads nowhere; None where it is sound, or leads outside."""
    if "://" in link.target or link.target.startswith("mailto:"):
        return None
    path, _, anchor = link.target.partition("#")
    target = (link.page.parent / path).resolve() if path else link.page
    if not target.is_relative_to(ROOT):
        return "leads out of the repository"
    if not target.exists():
        return "no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors_of(target)):
        return f"no heading {anchor!r} there"
    return None


def outside_links(links: list[Link]) -> dict[str, list[Path]]:
    """Addresses in the order of the alphabet, with the pages that name them."""
    out: dict[str, list[Path]] = {}
    for link in links:
        if "://" in link.target and link.page not in out.setdefault(link.target, []):
            out[link.target].append(link.page)
    return dict(sorted(out.items()))


def main() -> int:
    """Print outside links to stdout, faults to stderr; the exit code."""
    links = [link for page in pages() for link in links_of(page)]
    outside = outside_links(links)
    print(f"{len(links)} links, {len(outside)} addresses outside (listed, not fetched)")
    for address, named in outside.items():
        print(f"  {address}  ({', '.join(str(page.relative_to(ROOT)) for page in named)})")
    faults = [(link, fault) for link in links if (fault := fault_of(link))]
    for link, fault in faults:
        print(f"{link.page.relative_to(ROOT)}: ({link.target}): {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
