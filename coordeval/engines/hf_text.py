"""Token ids to the verbatim answer: where it ends, why it ended, and its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from coordeval.engines.hf_control import RowControl
    from coordeval.records import FinishReason


class Answer(NamedTuple):
    """One finished answer; `token_ids` keep the end token that `text` goes without."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason

    @property
    def written(self) -> int:
        """How many tokens were written before the end token."""
        return len(self.token_ids) - (self.finish_reason == "stop")


def cut_at_end(row_ids: Sequence[int], end_ids: Collection[int]) -> tuple[list[int], bool]:
    """Ids up to and with the first end token, and whether there was one; padding falls away.

    Everything behind the first end token is padding, whatever its id: a padding id that the model
    itself wrote before the end stays.
    """
    for position, token_id in enumerate(row_ids):
        if token_id in end_ids:
            return list(row_ids[: position + 1]), True
    return list(row_ids), False


def read_answer(row_ids: Sequence[int], end_ids: Collection[int], tokenizer: Any) -> Answer:
    """One generated row to its answer; an empty row gives an empty text and `length`.

    The ids are decoded in one go, so that a character spread over several tokens stays whole;
    special tokens are kept as they are written. Ids beyond the tokenizer have no text.
    """
    token_ids, ended = cut_at_end(row_ids, end_ids)
    text = decode_verbatim(token_ids[:-1] if ended else token_ids, tokenizer)
    return Answer(text, token_ids, "stop" if ended else "length")


def read_controlled(
    row_ids: Sequence[int], control: RowControl, end_ids: Collection[int], tokenizer: Any
) -> Answer:
    """As `read_answer`; a row that control ended goes without the end token it was forced to."""
    if not control.stopped and control.error is None:
        return read_answer(row_ids, end_ids, tokenizer)
    token_ids = list(row_ids[: control.written])
    reason: FinishReason = "loop_guard" if control.stopped else "grammar_error"
    return Answer(decode_verbatim(token_ids, tokenizer), token_ids, reason)


def decode_verbatim(token_ids: Sequence[int], tokenizer: Any) -> str:
    """Text of token ids with nothing skipped or tidied; empty for no ids."""
    if not token_ids:
        return ""
    text: str = tokenizer.decode(
        list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text


__all__ = ["Answer", "cut_at_end", "decode_verbatim", "read_answer", "read_controlled"]
