"""Florence-2's location tokens: runs of them, cut into boxes, with what is foreign among them.

A name stands before its run. So text between two runs is the next one's name, unless both runs
lack what one box needs: then it stands in a slot of that box, or was put into it. Inside
`<poly>...</poly>` there are no names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordeval.parsers.findings import whole_number
from coordeval.parsers.numbers import Written

# A location token, or what may be left of one that stands among others.
_LOCATION = re.compile(
    r"<loc_(?P<number>\d++|[^<>\s]{0,12}+)>|<loc_\d{1,6}(?![\d>])|loc_\d{1,6}+>"
    r"|<(?!/?(?:s|pad|od|box|bbox|ground|obj|poly|sep|and)>)[^<>\s]{1,16}+>",
    re.ASCII,
)
_TAG = re.compile(r"</?(?:s|pad|od|box|bbox|ground|obj|poly|sep|and)>")
_POLY_GOES_ON = re.compile(r"\s*+(?:</poly>|<sep>)")
# What stands in a slot, and what stands between two: neither holds a number.
_IN_SLOT = re.compile(r"(?P<number>(?!))?+.+", re.DOTALL)
_BETWEEN = re.compile(r"(?P<number>(?!))?+.++", re.DOTALL)
_BOX = 4


@dataclass(slots=True)
class Run:
    """Location tokens in a row, what is foreign among them included; a name begins at `name_at`."""

    name_at: int
    pieces: list[re.Match[str]]

    @property
    def end(self) -> int:
        """Where the last one ends."""
        return self.pieces[-1].end()

    def filled(self) -> int:
        """How many slots of its last box are taken; 0 where that box is whole."""
        return sum(piece.re is not _BETWEEN for piece in self.pieces) % _BOX

    def boxes(self) -> list[list[re.Match[str]]]:
        """The pieces of each box; the last one may have too few."""
        out: list[list[re.Match[str]]] = []
        taken = 0
        for piece in self.pieces:
            if taken % _BOX == 0 and (piece.re is not _BETWEEN or not out):
                out.append([])
            out[-1].append(piece)
            taken += piece.re is not _BETWEEN
        return out


def location_runs(text: str, start: int, end: int) -> list[Run]:
    """The runs of `text[start:end]`, in order; linear in its length."""
    runs: list[Run] = []
    place = start
    for match in _LOCATION.finditer(text, start, end):
        follows = bool(runs) and not text[place : match.start()].strip()
        if match["number"] is None and not (runs and place == match.start()):
            continue
        if follows:
            runs[-1].pieces.append(match)
        else:
            runs.append(Run(place, [match]))
        place = match.end()
    return _joined(text, runs, end)


def _joined(text: str, runs: list[Run], end: int) -> list[Run]:
    """The runs with the foreign text between them, which is no name, in its place."""
    out: list[Run] = []
    in_poly = False
    for run in runs:
        _settle(text, run)
        begin = run.pieces[0].start()
        if out and _is_foreign(text, out[-1], run, in_poly=in_poly):
            last = out[-1]
            takes_slot = in_poly or last.filled() + run.filled() < _BOX
            foreign = _piece(_IN_SLOT if takes_slot else _BETWEEN, text, run.name_at, begin)
            last.pieces += [foreign, *run.pieces]
            continue
        if out:
            _take_rest_of_token(text, out[-1], begin)
            run.name_at = out[-1].end
        out.append(run)
        tag = _last_poly_tag(text, run)
        in_poly = tag == "<poly>" or (in_poly and tag == "<sep>")
    if out:
        _take_rest_of_token(text, out[-1], end)
    return out


def _settle(text: str, run: Run) -> None:
    """Where the numbers of a run make whole boxes, its other tokens stand between two of them."""
    others = [k for k, piece in enumerate(run.pieces) if "loc_" not in piece.group()]
    if others and (len(run.pieces) - len(others)) % _BOX == 0:
        for k in others:
            run.pieces[k] = _piece(_BETWEEN, text, *run.pieces[k].span())


def _is_foreign(text: str, last: Run, run: Run, *, in_poly: bool) -> bool:
    """True where the text before `run` is no name but stands among the numbers of `last`."""
    between = text[run.name_at : run.pieces[0].start()]
    if _TAG.search(between) is not None:
        return False
    if in_poly:
        return _POLY_GOES_ON.match(text, run.end) is not None
    before, behind = last.filled(), run.filled()
    return bool(before and behind) and _BOX - 1 <= before + behind <= _BOX


def _take_rest_of_token(text: str, last: Run, following: int) -> None:
    """Add what is left of a broken token behind a box that lacks one; a name holds no `>`."""
    closing = text.rfind(">", last.end, following)
    is_open = last.filled() == _BOX - 1 or last.pieces[-1]["number"] is None
    if closing < 0 or not is_open or _TAG.search(text, last.end, closing + 1) is not None:
        return
    pattern = _BETWEEN if last.pieces[-1]["number"] is None else _IN_SLOT
    last.pieces.append(_piece(pattern, text, last.end, closing + 1))


def _last_poly_tag(text: str, run: Run) -> str:
    """The tag of polygons that stands last before a run; empty where there is none."""
    tags = re.findall("</?poly>|<sep>", text[run.name_at : run.pieces[0].start()])
    return str(tags[-1]) if tags else ""


def _piece(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str]:
    match = pattern.match(text, start, end)
    assert match is not None
    return match


def read_numbers(pieces: list[re.Match[str]]) -> Written:
    """The numbers of one box; the first piece that is none is foreign."""
    numbers: list[int] = []
    for slot, match in enumerate(pieces):
        digits = match["number"] or ""
        if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and digits != "0"):
            return Written((), match.group().strip(), slot)
        numbers.append(whole_number(digits))
    return Written(tuple(numbers))


__all__ = ["Run", "location_runs", "read_numbers"]
