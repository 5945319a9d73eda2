"""`--dialect auto`: which dialect texts are written in, or why that cannot be told from them.

Every known dialect reads the same texts. What a reading is worth is how many of its objects are
valid and lie on their image: a syntax shows by the first, the meaning of numbers only by the
second. A dialect is proposed where no other reads nearly as much; where two do, nothing is, and
neither where more than a few of the texts are written in another dialect.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from coordeval.parsers.coordjson import parse
from coordeval.parsers.dialects import Dialect, known_dialects, value_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coordeval.coords import CoordFrame
    from coordeval.records import FoundRecord

NUM_TEXTS = 200
"""How many texts are looked at, from the first on."""
NEARLY = 0.95
"""Another dialect that reads more than this share of the best one's leaves the choice open."""
SHOWN_OTHERS = 3
"""How many dialects of the texts that the chosen one does not read are named."""
READ_SHARE = 0.25
"""A proposal reads at least this share of the texts that are not blank."""
SLACK = 0.02
"""How far beyond the image, in sides of it, an object may reach and still lie on it."""


class ReadText(NamedTuple):
    """A text and the size of its image in pixels."""

    text: str
    width: int
    height: int


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one dialect makes of the texts: counts of texts, and of records found in them.

    `read` counts texts that conform or hold a valid object, `contained` those of them whose records
    stand in the dialect's own container, `fitting` the valid objects that lie on their image.
    """

    dialect: str
    conforming: int = 0
    read: int = 0
    contained: int = 0
    found: int = 0
    valid: int = 0
    fitting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Readings, best first; `chosen` is None where the texts leave the choice open; `why` says why.

    `texts` are those that are not blank.
    """

    texts: int
    readings: tuple[Reading, ...]
    chosen: str | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is stored beside the dialect that was chosen."""
        return {
            "chosen": self.chosen,
            "why": self.why,
            "texts": self.texts,
            "readings": [asdict(reading) for reading in self.readings if reading.found],
        }


def candidates_in(frame: CoordFrame | None) -> dict[str, Dialect]:
    """All known dialects; with a frame that the user names, those whose numbers can mean it.

    Pixels, of the image or of a resized one, are what dialects of pixels write, and bins are what
    all others write; coordeval's own take the run's frame, whichever it is.
    """
    known = known_dialects()
    if frame is None:
        return known
    in_pixels = frame.extent in {"pixel", "resized"}
    return {
        name: replace(dialect, frame=frame.name) if dialect.is_foreign else dialect
        for name, dialect in known.items()
        if not dialect.is_foreign or in_pixels == (dialect.coordinates == "pixel_int")
    }


def propose(
    texts: Iterable[ReadText],
    frame: CoordFrame,
    dialects: Mapping[str, Dialect] | None = None,
) -> Proposal:
    """Read up to NUM_TEXTS texts in every dialect and propose one, or none.

    `frame` is what coordeval's own dialects mean by a bin; `dialects` are all known ones where
    none are given. Blank texts are passed over. No texts give no proposal.
    """
    candidates = known_dialects() if dialects is None else dialects
    readings = {name: Reading(dialect=name) for name in candidates}
    written_in: list[frozenset[str]] = []
    for item in texts:
        if not item.text.strip():
            continue
        written_in.append(
            frozenset(
                name
                for name, dialect in candidates.items()
                if _read(readings[name], item, dialect, frame)
            )
        )
        if len(written_in) == NUM_TEXTS:
            break
    ranked = sorted(
        readings.values(), key=lambda one: (one.fitting, one.contained, one.valid), reverse=True
    )
    chosen, why = _decide(ranked, written_in)
    return Proposal(texts=len(written_in), readings=tuple(ranked), chosen=chosen, why=why)


def _read(reading: Reading, item: ReadText, dialect: Dialect, frame: CoordFrame) -> bool:
    """Add one text to a dialect's counts; True where its records stand in its own container."""
    parsed = parse(item.text, dialect)
    reading.conforming += parsed.conforming
    read = parsed.conforming or parsed.objects_valid > 0
    reading.read += read
    contained = read and "no_container" not in parsed.issues
    reading.contained += contained
    reading.found += parsed.objects_found
    reading.valid += parsed.objects_valid
    own = value_frame(dialect, frame)
    reading.fitting += sum(_fits(record, item, own) for record in parsed.objects)
    return contained


def _fits(record: FoundRecord, item: ReadText, frame: CoordFrame | None) -> bool:
    values = list(record.values or ())
    pixels = values if frame is None else frame.to_pixels(values, item.width, item.height).tolist()
    right, bottom = max(pixels[0::2], default=0), max(pixels[1::2], default=0)
    return right <= item.width * (1 + SLACK) and bottom <= item.height * (1 + SLACK)


def _decide(ranked: list[Reading], written_in: Sequence[frozenset[str]]) -> tuple[str | None, str]:
    """The dialect that is proposed, or None, and the reason.

    `written_in` are the dialects that each text's container is of.
    """
    texts = len(written_in)
    if not texts:
        return None, "there is no text to look at"
    if not ranked[0].fitting:
        return None, f"no known dialect finds a valid object in {texts} texts"
    near = [one for one in ranked if one.fitting > NEARLY * ranked[0].fitting]
    best = max(near, key=lambda one: (one.contained, one.fitting))
    if best.read < READ_SHARE * texts:
        return None, f"{best.dialect} reads most, but only {best.read} of {texts} texts"
    others = [names for names in written_in if names and best.dialect not in names]
    elsewhere = _named(others, texts)
    if len(others) > (1 - NEARLY) * texts:
        return None, (
            f"{best.dialect} reads most of them, but {elsewhere}; score texts of several dialects "
            "apart, or name the one to hold them all to"
        )
    alike = [one.dialect for one in near if one.contained >= NEARLY * best.contained]
    if len(alike) > 1:
        return None, (
            f"{' and '.join(alike)} read these texts alike (they may differ only in what a number "
            "means, which the texts do not tell); name one of them"
        )
    return best.dialect, f"{_reason(best, ranked, texts)}{'; ' if others else ''}{elsewhere}"


def _named(others: Sequence[frozenset[str]], texts: int) -> str:
    """How many texts are written in other dialects alone, and in which; empty for none."""
    if not others:
        return ""
    counts = Counter(name for names in others for name in names)
    which = ", ".join(f"{name} ({count})" for name, count in counts.most_common(SHOWN_OTHERS))
    return f"{len(others)} of {texts} texts are written in others alone: {which}"


def _reason(best: Reading, ranked: list[Reading], texts: int) -> str:
    why = f"{best.dialect} reads {best.fitting} objects in {best.read} of {texts} texts"
    others = [one for one in ranked if one is not best and one.valid]
    if not others:
        return f"{why}; no other dialect finds a valid one"
    second = others[0]
    what = f"{second.fitting} on their images, {second.contained} texts in its own container"
    return f"{why}; the next, {second.dialect}, has {what}"


__all__ = ["NUM_TEXTS", "Proposal", "ReadText", "Reading", "candidates_in", "propose"]
