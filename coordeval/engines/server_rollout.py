"""A server's answer to a rollout line: the same conventions as every engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.engines.base import new_rollout
from coordeval.engines.hf_text import decode_verbatim

if TYPE_CHECKING:
    from coordeval.engines.base import Request
    from coordeval.engines.server_answer import ServerAnswer
    from coordeval.engines.server_control import TextWatch, TokenWatch
    from coordeval.records import Rollout

_UNFINISHED = "\ufffd"


def finished_rollout(
    request: Request,
    answer: ServerAnswer,
    watch: TokenWatch | TextWatch | None,
    *,
    tokenizer: Any,
    seconds: float,
) -> Rollout:
    """The line of an answer; `tokenizer` None takes the server's word for the text.

    Where the loop guard stopped, text and tokens end there; the end token that a processor forces
    then is not kept. An answer outside its constraint keeps its text, and says so.
    """
    cut = None if watch is None else watch.cut_tokens
    cut_characters = None if watch is None else watch.cut_characters
    stopped = cut is not None or cut_characters is not None
    ids = answer.token_ids[:cut]
    ended = answer.ended and not stopped
    has_ids = answer.has_ids and cut_characters is None
    reason: Any = "length" if answer.finish_reason is None else answer.finish_reason
    fields: dict[str, Any] = {}
    if watch is not None and watch.verdict is not None:
        saved = max(0, answer.max_tokens - watch.written) if stopped else 0
        fields["guard"] = watch.verdict.to_json(saved)
        if watch.counts_characters:
            fields["guard"]["unit"] = "characters"
        reason = "loop_guard" if stopped else reason
    if watch is not None and watch.error is not None:
        fields["error"] = " ".join(watch.error.split())[:1000]
        reason = "grammar_error"
        if ended and watch.written == len(ids) - 1:  # all that was wrong is the end token itself
            ids, ended = ids[:-1], False
    if tokenizer is not None and has_ids:
        text = decode_verbatim(ids[:-1] if ended else ids, tokenizer)
    else:
        text = answer.text[:cut_characters]
    return new_rollout(
        request,
        text,
        finish_reason=reason,
        token_ids=ids if has_ids else None,
        token_logprobs=answer.logprobs[: len(ids)] if has_ids and answer.logprobs else None,
        prompt_tokens=answer.prompt_tokens,
        seconds=round(seconds, 6),
        **fields,
    )


def text_differs(answer: ServerAnswer, tokenizer: Any) -> bool:
    """True where the server's text is not what the checkpoint's tokenizer reads in its ids.

    Characters that the last tokens leave unfinished do not count, nor do streams that were ended.
    """
    if tokenizer is None or not answer.token_ids or answer.finish_reason is None:
        return False
    ids = answer.token_ids[:-1] if answer.ended else answer.token_ids
    ours = decode_verbatim(ids, tokenizer)
    return ours.rstrip(_UNFINISHED) != answer.text.rstrip(_UNFINISHED)


__all__ = ["finished_rollout", "text_differs"]
