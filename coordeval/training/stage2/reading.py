"""A training rollout read by the one parser, with the tokens of every record.

Places come from the bytes of the token ids, so they are right to the token also where a character
is several tokens, where a token straddles the border of two records, behind leading prose, and
where special or coordinate tokens stand in a description.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from coordeval.engines.hf_text import decode_verbatim
from coordeval.parsers import parse
from coordeval.parsers.brackets import coordinate_pattern
from coordeval.parsers.lexer import LONE_SURROGATE
from coordeval.parsers.reasons import TRUNCATED_RECORD
from coordeval.parsers.surroundings import LIST_KEY
from coordeval.training.stage2.token_text import TokenText

if TYPE_CHECKING:
    from typing import Any

    from coordeval.decoding.token_table import TokenTable
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import FoundRecord, GeometryKind, ParsedRollout, Rollout

Status = Literal["read", "invalid", "failed"]
Origin = Literal["token_ids", "tokenised"]

_W = r"[ \t\n\r]*+"
_MAP_OPENS = re.compile(rf'\{{(?={_W}"object_\d{{1,9}}"{_W}:{_W}\{{)')
_DESCRIPTION = re.compile(rf'"desc"{_W}:{_W}"((?:[^"\\]|\\.)*+)"', re.DOTALL)


class RecordTokens(NamedTuple):
    """The tokens of a record: those that hold any byte of `text[start:end]`.

    `first` and `behind` are token indices. `slots` holds the index of the token of each coordinate;
    it is empty where they are not one coordinate token each (spelled out with ordinary tokens, or
    not readable). `description` is the character range between the quotes, None without one.
    """

    first: int
    behind: int
    slots: tuple[int, ...]
    description: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRollout:
    """What a model wrote, and where.

    `status`: `failed` where the engine kept the answer from being made, `invalid` where the text
    has no readable container, else `read`. `origin`: the engine's own token ids, or the text
    tokenised anew, where there are none or they belong to another text. `written` is the answer
    without the end token; `ended` says whether the model wrote one. `truncated`: the token limit or
    the end of the text came before the container was closed. `inside` is the character behind the
    opening of the list (of the map), `whole` are the records that were written to their end, kept
    and dropped, in the order of the text.
    """

    status: Status
    origin: Origin
    ended: bool
    truncated: bool
    written: TokenText
    parsed: ParsedRollout
    inside: int
    whole: tuple[FoundRecord, ...]


def read_rollout(
    rollout: Rollout, *, tokenizer: Any, table: TokenTable, dialect: Dialect
) -> ReadRollout:
    """Read one rollout; never raises on anything a model wrote.

    Ids are used where they decode to the stored text, else the text is tokenised anew (lone
    surrogates, which have no UTF-8 form, as U+FFFD). Empty texts are invalid.
    """
    written, ended, origin = _written(rollout, tokenizer, table)
    parsed = parse(written.text, dialect)
    issues = parsed.issues
    status: Status = "read"
    if rollout.failed:
        status = "failed"
    elif "no_container" in issues or "empty_output" in issues:
        status = "invalid"
    whole = [record for record in parsed.records if record.reason != TRUNCATED_RECORD]
    return ReadRollout(
        status=status,
        origin=origin,
        ended=ended,
        truncated=rollout.finish_reason == "length" or "truncated" in issues,
        written=written,
        parsed=parsed,
        inside=container_inside(written.text, dialect) if status == "read" else 0,
        whole=tuple(sorted(whole, key=lambda record: record.start)),
    )


def _written(rollout: Rollout, tokenizer: Any, table: TokenTable) -> tuple[TokenText, bool, Origin]:
    """The answer without its end token, whether that was written, and where the ids come from."""
    ids = rollout.token_ids
    if ids is not None and all(0 <= token_id < table.vocab_size for token_id in ids):
        ended = bool(ids) and ids[-1] in table.end_ids
        answer = ids[:-1] if ended else ids
        written = TokenText(answer, table)
        if rollout.text == written.text or rollout.text == decode_verbatim(answer, tokenizer):
            return written, ended, "token_ids"
    text = LONE_SURROGATE.sub("\ufffd", rollout.text)
    anew = tokenizer(text, add_special_tokens=False)["input_ids"]
    return TokenText(anew, table), rollout.finish_reason == "stop", "tokenised"


def container_inside(text: str, dialect: Dialect) -> int:
    """The character behind the opening of a container that is there, as the parser finds it."""
    if dialect.container == "list":
        key = LIST_KEY.search(text)
        assert key is not None
        return key.end()
    opening = _MAP_OPENS.search(text)
    return opening.end() if opening is not None else text.index("{") + 1


def record_tokens(
    written: TokenText,
    record: FoundRecord,
    *,
    table: TokenTable,
    dialect: Dialect,
) -> RecordTokens:
    """Where the tokens of a record stand; see `RecordTokens`."""
    first, behind = written.tokens(record.start, record.end)
    description = _DESCRIPTION.search(written.text, record.start, record.end)
    return RecordTokens(
        first=first,
        behind=behind,
        slots=_slots(written, record, table, dialect),
        description=description.span(1) if description is not None else None,
    )


def _slots(
    written: TokenText, record: FoundRecord, table: TokenTable, dialect: Dialect
) -> tuple[int, ...]:
    """Tokens of the coordinates of a record's list, in order; none unless all of them are there."""
    if record.kind is None or record.values is None:
        return ()
    opening = _opening(record.kind).search(written.text, record.start, record.end)
    if opening is None or dialect.coordinates not in ("token", "quoted_token"):
        return ()
    closing = written.text.find("]", opening.end(), record.end)
    quote = int(dialect.coordinates == "quoted_token")
    slots: list[int] = []
    pattern = re.compile(coordinate_pattern(dialect.coordinates))
    inside = pattern.finditer(written.text, opening.end(), closing if closing >= 0 else record.end)
    for match in inside:
        token = written.token_exactly(match.start() + quote, match.end() - quote)
        if token is None:
            return ()
        slots.append(token)
    bins = [table.bin_of(written.token_ids[token]) for token in slots]
    return tuple(slots) if bins == list(record.values) else ()


def _opening(kind: GeometryKind) -> re.Pattern[str]:
    # Inside a string both quotes of a key would be escaped, so only the key itself is found.
    return re.compile(rf'"{kind}"{_W}:{_W}\[')


__all__ = [
    "Origin",
    "ReadRollout",
    "RecordTokens",
    "Status",
    "container_inside",
    "read_rollout",
    "record_tokens",
]
