"""The clean target: matched and missed objects written anew in canonical form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from coordeval.data.canonical import render_text
from coordeval.parsers import parse
from coordeval.training.stage2.reading import container_inside, record_tokens
from coordeval.training.stage2.taught import Part, Taught, taught
from coordeval.training.stage2.token_text import TokenText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.records import FoundRecord
    from coordeval.training.stage2.judged import Found, Judged, TrueObjects
    from coordeval.training.stage2.overlap import BinObject
    from coordeval.training.stage2.target_context import TargetContext


class Entry(NamedTuple):
    """One object of a clean target.

    `shown` is what stands in the text, `labels` are the bins taught at its coordinates. `found` is
    the index of the written object that it is, None for a missed one.
    """

    shown: BinObject
    labels: tuple[int, ...]
    struct: float
    desc: float
    true_desc: bool
    found: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanTarget:
    """What is taught, and where it stands: entries with their records in the target's own text.

    `inside` is the character behind the opening of the container.
    """

    taught: Taught
    written: TokenText
    entries: tuple[Entry, ...]
    records: tuple[FoundRecord, ...]
    inside: int


def clean_target(
    judged: Judged, truth: TrueObjects, context: TargetContext, *, multiplier: float
) -> CleanTarget:
    """The target of a readable rollout: its matched objects and the missed ones, nothing else.

    Matched objects show the coordinates that the model wrote and teach the true ones; where these
    cannot be told slot by slot, they show the true geometry. Missed ones stand behind them
    (`append`), or all stand in the order in which the truth is written (`sorted`). `multiplier`
    weighs the structure of missed objects and what closes.
    """
    weights = context.config.tokens
    entries = [
        _matched(index, found, truth, context)
        for index, found in enumerate(judged.found)
        if found.true_index is not None
    ]
    order = [found.true_index for found in judged.found if found.true_index is not None]
    order += judged.missed
    entries += [
        _missed(truth.written[index], context, multiplier=multiplier) for index in judged.missed
    ]
    if context.config.insertion == "sorted":
        entries = [entry for _, entry in sorted(zip(order, entries, strict=True), key=_first)]
    return _assembled(
        entries, context, head=weights.matched_struct, closing=weights.closing * multiplier
    )


def true_target(truth: TrueObjects, context: TargetContext, *, multiplier: float) -> CleanTarget:
    """All ground truth from an empty start, as in stage 1, under the weights of missed objects."""
    weights = context.config.tokens
    return _assembled(
        [_missed(obj, context, multiplier=multiplier) for obj in truth.written],
        context,
        head=weights.missed_struct * multiplier,
        closing=weights.closing * multiplier,
    )


def _first(pair: tuple[int, Entry]) -> int:
    return pair[0]


def _matched(index: int, found: Found, truth: TrueObjects, context: TargetContext) -> Entry:
    assert found.true_index is not None
    assert found.record.desc is not None
    assert found.record.values is not None
    true = truth.written[found.true_index]
    own = true._replace(desc=found.record.desc)
    if found.labels is not None:
        own = own._replace(bins=found.record.values)
    return Entry(
        shown=own,
        labels=true.bins if found.labels is None else found.labels,
        struct=context.config.tokens.matched_struct,
        desc=context.config.tokens.matched_desc,
        true_desc=found.true_desc,
        found=index,
    )


def _missed(true: BinObject, context: TargetContext, *, multiplier: float) -> Entry:
    weights = context.config.tokens
    return Entry(
        shown=true,
        labels=true.bins,
        struct=weights.missed_struct * multiplier,
        desc=weights.missed_desc,
        true_desc=True,
        found=None,
    )


def _assembled(
    entries: Sequence[Entry], context: TargetContext, *, head: float, closing: float
) -> CleanTarget:
    text = render_text([entry.shown for entry in entries], context.dialect)
    written = TokenText(context.tokenise(text), context.table)
    # Read again, since a tokenizer may write a description in another normal form.
    records = sorted(parse(written.text, context.dialect).records, key=lambda one: one.start)
    assert len(records) == len(entries)
    inside = container_inside(written.text, context.dialect)
    parts = [Part(start=0, end=inside, struct=head)]
    for entry, record in zip(entries, records, strict=True):
        tokens = record_tokens(written, record, table=context.table, dialect=context.dialect)
        parts.append(
            Part(
                start=parts[-1].end,
                end=record.end,
                struct=entry.struct,
                desc=entry.desc,
                description=tokens.description,
                true_desc=entry.true_desc,
                slots=tokens.slots,
                bins=entry.labels,
                is_box=entry.shown.kind == "bbox_2d",
            )
        )
    parts.append(Part(start=parts[-1].end, end=len(written.text), struct=closing))
    return CleanTarget(
        taught=taught(written, parts, context, end_weight=closing),
        written=written,
        entries=tuple(entries),
        records=tuple(records),
        inside=inside,
    )


__all__ = ["CleanTarget", "Entry", "clean_target", "true_target"]
