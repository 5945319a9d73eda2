"""Florence-2: a name, then its location tokens, four for each box; names follow one another.

    car<loc_53><loc_332><loc_933><loc_774>wheel<loc_708><loc_564><loc_865><loc_765><loc_1><...>

x1 y1 x2 y2 on 1000 bins, and a bin stands for its centre: pixel = (bin + 0.5) / 1000 * size.
`<poly>...</poly>` around location tokens makes one polygon of them; `<sep>` inside begins another
of the same name. Source: microsoft/Florence-2,
`processing_florence2` (task `<OD>`, `BoxQuantizer` in mode floor), as transformers'
`models/florence2` carries it; `<s>`, `</s>` and `<pad>` are removed there before parsing: those
that open the text are part of what Florence-2 generates and no issue here.

A record is one box. The first one of a name spans from the name on, the others their own tokens.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordeval.parsers.findings import Findings
from coordeval.parsers.location_runs import location_runs, read_numbers
from coordeval.parsers.numbers import NO_GEOMETRY, TRUNCATED, add_box, inner_bounds
from coordeval.parsers.surroundings import FENCE

if TYPE_CHECKING:
    from coordeval.parsers.dialects import Dialect
    from coordeval.parsers.location_runs import Run
    from coordeval.records import GeometryKind, ParsedRollout

_CUT_TOKEN = re.compile(r"<(?:l|lo|loc|loc_[^<>\s]{0,12}+|/?p|/?po|/?pol|/?poly)?\Z")
_TAGS = re.compile(r"</?(?:od|box|bbox|ground|obj|poly|sep|and)>")
_CLOSING = re.compile(r"(?:\s|</(?:od|box|bbox|ground|obj|poly)>|<(?:sep|and)>)*+")
_OPENING = re.compile(r"(?:</?s>|<pad>|\s)*+")
_BOX = 4


def parse_florence2(text: str, dialect: Dialect) -> ParsedRollout:
    """Read any text; never raises, in time linear in its length."""
    found = Findings(text, dialect)
    if not text.strip():
        found.issues["empty_output"] = 1
        return found.result()
    opening = _OPENING.match(text)
    assert opening is not None
    start, end = inner_bounds(found, "<loc_")
    found.issues["text_before"] = int(bool(FENCE.sub("", text[opening.end() : start]).strip()))
    cut = _CUT_TOKEN.search(text, start, end) if end == len(text) else None
    until = end if cut is None else cut.start()
    runs = location_runs(text, start, until)
    if not runs and cut is None:
        found.issues["no_container"] = 1
        return found.result()
    _read_runs(found, runs, start, until, cut=cut is not None)
    return found.result()


def _read_runs(found: Findings, runs: list[Run], place: int, end: int, *, cut: bool) -> None:
    """Read each name with the run of location tokens after it.

    Tags alone between two runs (`<sep>`, `</poly><poly>`) open a further geometry of the same name.
    """
    text = found.text
    may_be_cut = cut or end == len(text)
    desc, is_poly = "", False
    for number, run in enumerate(runs):
        name = text[place : run.pieces[0].start()]
        own = _TAGS.sub("", name).strip()
        continues = number > 0 and not own
        desc = desc if continues else own
        is_poly = _opens_poly(name, before=is_poly and continues)
        place = run.end
        at_end = may_be_cut and number + 1 == len(runs) and not _visible(text[place:end])
        open_end = at_end and (cut or (is_poly and "</poly>" not in text[place:]))
        begin = run.pieces[0].start() - (0 if continues else len(name) - _skipped(name))
        _add_run(found, run, begin, desc, is_poly=is_poly, open_end=open_end, at_end=at_end)
    _read_rest(found, place, end, cut=cut)


def _read_rest(found: Findings, place: int, end: int, *, cut: bool) -> None:
    """Take what follows the last location token: a name without a place, or nothing of weight."""
    text = found.text
    rest = _visible(text[place:end])
    at = place + _skipped(text[place:end])
    if cut or (end == len(text) and any(map(str.isalnum, rest))):
        if rest or not found.issues["truncated"]:
            found.drop(at, len(text), TRUNCATED, desc=rest or None)
    elif any(map(str.isalnum, rest)):
        found.drop(at, at + len(text[at:end].rstrip()), NO_GEOMETRY, desc=rest)
    elif rest:
        found.issues["text_after"] = 1


def _opens_poly(name: str, *, before: bool) -> bool:
    """True where the location tokens behind `name` stand inside `<poly>`."""
    opened, closed = name.rfind("<poly>"), name.rfind("</poly>")
    return before if opened == closed else opened > closed


def _visible(text: str) -> str:
    return _TAGS.sub("", text).strip()


def _skipped(text: str) -> int:
    """How much of `text` are spaces and tags that close or part what stood before."""
    match = _CLOSING.match(text)
    assert match is not None
    return match.end()


def _add_run(
    found: Findings,
    run: Run,
    begin: int,
    desc: str,
    *,
    is_poly: bool,
    open_end: bool,
    at_end: bool,
) -> None:
    """Cut a run into boxes; a rest of fewer than four numbers is a box of its own, and dropped.

    `open_end`: a token or a closing tag was cut off; `at_end`: nothing follows in the text, not
    even an end token.
    """
    kind: GeometryKind = "poly" if is_poly else "bbox_2d"
    parts = [run.pieces] if is_poly else run.boxes()
    for number, part in enumerate(parts):
        start = part[0].start() if number else begin
        written = read_numbers(part)
        is_last = number + 1 == len(parts)
        too_few = not is_poly and len(part) < _BOX
        if is_last and ((at_end and too_few) or (open_end and is_poly)):
            found.drop(
                start, len(found.text), TRUNCATED, desc=desc, kind=kind, written=written.known
            )
        else:
            add_box(found, start, part[-1].end(), desc, written, kind=kind)


__all__ = ["parse_florence2"]
