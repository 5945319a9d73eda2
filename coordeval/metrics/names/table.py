"""The list of mappings: every name that was predicted or renamed, its class, and by what."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from coordeval.metrics.classes import NAME_RULES
from coordeval.metrics.names.matching import EXACT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.names.mapper import MatchedBy
    from coordeval.metrics.names.matching import NameMatching

NAMES_FORMAT = "coordeval-names/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRow:
    """One normalised name.

    `class_name` is the class as its source writes it, None for a name that stands for no class;
    `by` says how it was found, `similarity` how near it is (embeddings only). `count` are valid
    predictions of that name in the headline (lines aside), `ground_truth` scored objects that are
    called so.
    """

    name: str
    class_name: str | None
    by: MatchedBy | None
    similarity: float | None
    count: int
    ground_truth: int


def name_rows(columns: Columns, name_rule: str) -> tuple[NameRow, ...]:
    """Every predicted name, and every name elsewhere that is not its class's own.

    Elsewhere is the ground truth, other samples than the headline, and dropped records; the last
    two with a count of 0. `columns` holds all valid predictions. Most frequent first, then by name;
    empty in, empty out.
    """
    rule, names = NAME_RULES[name_rule], columns.names
    records = columns.records
    predicted = _counted((records.desc[row] or "" for row in columns.pred.record.tolist()), rule)
    truth = _counted((desc or "" for desc in columns.gt.desc), rule)
    rows = []
    for name in predicted.keys() | truth.keys() | names.found.keys():
        code, how = names.codes.get(name), names.how(name)
        if name not in predicted and how == EXACT:
            continue
        rows.append(
            NameRow(
                name=name,
                class_name=None if code is None else columns.universe.labels[code],
                by=None if how is None else how.by,
                similarity=None if how is None else how.similarity,
                count=predicted[name],
                ground_truth=truth[name],
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.count, -row.ground_truth, row.name)))


def _counted(descs: Iterable[str], rule: Any) -> Counter[str]:
    out: Counter[str] = Counter()
    for desc, count in Counter(descs).items():
        out[rule(desc)] += count
    return out


def name_metrics(rows: Sequence[NameRow] | None) -> dict[str, float | None]:
    """`names/*`: predictions per way of finding their class; {} where names had to be equal."""
    if rows is None:
        return {}
    ways: tuple[MatchedBy, ...] = ("exact", "synonym", "embedding")
    return {f"names/{way}": sum(row.count for row in rows if row.by == way) for way in ways}


def mapping_document(matching: NameMatching, rows: Sequence[NameRow]) -> dict[str, Any]:
    """The content of name_mapping.json."""
    return {
        "format": NAMES_FORMAT,
        "matching": matching.to_json(),
        "names": [_row_json(row) for row in rows],
    }


def _row_json(row: NameRow) -> dict[str, Any]:
    raw = asdict(row)
    return {"class" if key == "class_name" else key: value for key, value in raw.items()}


__all__ = ["NAMES_FORMAT", "NameRow", "mapping_document", "name_metrics", "name_rows"]
