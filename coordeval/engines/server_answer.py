"""A server's chat completion, whole or in pieces, checked field by field before it is believed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from coordeval.engines.server_failures import GarbageAnswer, GrammarFailed, ServerBroken

_NAMED_BY_ID = "token_id:"
MAX_TOKEN_ID = (1 << 31) - 1
LOGPROB_SLACK = 1e-3
"""Rounding can lift the log-probability of a certain token a little above 0."""

Ranked = list[tuple[int, float]]
"""The most probable tokens of one step: (token id, natural log-probability), as they came."""


@dataclass(slots=True, kw_only=True)
class ServerAnswer:
    """What a server wrote so far: grows by `add_chunk`, or is filled by `read_answer`.

    `token_ids`, `logprobs` and `top` have one entry per token; they are empty where the server
    gives none (`has_ids` False: work from `text`). `finish_reason` and `stop_reason` are the
    server's own words, None so far. `max_tokens` bounds what is believed.
    """

    max_tokens: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Ranked] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    prompt_ids: list[int] | None = None
    prompt_tokens: int | None = None

    @property
    def has_ids(self) -> bool:
        """True where the server told the ids of what it wrote (or wrote nothing)."""
        return bool(self.token_ids) or not self.text

    @property
    def ended(self) -> bool:
        """True where the last token is an end token (not a stop string of the server's own)."""
        return self.finish_reason == "stop" and not isinstance(self.stop_reason, str)

    def ranked(self, most: int) -> list[dict[int, float]]:
        """Per token the most probable ones, best first, of at most `most` that were asked for.

        vLLM puts the written token among them, first. Where it comes last by probability it may
        have any rank, so it is left out: no token may be missing between those that are given.
        """
        steps = []
        for written, step in zip(self.token_ids, self.top, strict=True):
            best_first = sorted(step, key=lambda item: -item[1])
            if len(best_first) >= most and best_first[-1][0] == written:
                best_first.pop()
            steps.append(dict(best_first))
        return steps

    def add_chunk(self, document: Any) -> Piece | None:
        """Take in one chunk of a stream; what it adds, None where it carries no choice."""
        chunk = _mapping(document, "chunk")
        self._note_prompt(chunk)
        choices = _list(chunk.get("choices"), "choices")
        if not choices:
            return None  # the last chunk may hold nothing but counts
        choice = _mapping(choices[0], "choices[0]")
        return self._add(choice, _mapping(choice.get("delta"), "delta"))

    def check_complete(self) -> None:
        """Refuse an answer without an end, and counts that contradict one another."""
        if self.finish_reason is None:
            raise GarbageAnswer("the answer has no finish_reason")
        if self.token_ids and len(self.logprobs) not in {0, len(self.token_ids)}:
            raise GarbageAnswer(
                f"the answer has {len(self.token_ids)} tokens and {len(self.logprobs)} logprobs"
            )
        if len(self.token_ids) > self.max_tokens:
            raise GarbageAnswer(
                f"the answer has {len(self.token_ids)} tokens, {self.max_tokens} were asked for"
            )

    def _note_prompt(self, document: dict[str, Any]) -> None:
        if document.get("prompt_token_ids") is not None:
            self.prompt_ids = _ids(document["prompt_token_ids"], "prompt_token_ids")
        usage = document.get("usage")
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if isinstance(counted, int) and not isinstance(counted, bool) and counted >= 0:
            self.prompt_tokens = counted
        if self.prompt_ids is not None:
            self.prompt_tokens = len(self.prompt_ids)

    def _add(self, choice: dict[str, Any], message: dict[str, Any]) -> Piece:
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise GarbageAnswer("the answer's content is not a string")
        for key in ("reasoning", "reasoning_content", "tool_calls", "refusal"):
            if message.get(key):
                raise GarbageAnswer(
                    f"the server cut {key} out of the answer: start it without a parser for that"
                )
        piece = _read_piece(choice, content or "")
        self.text += piece.text
        self.token_ids += piece.token_ids
        self.logprobs += piece.logprobs
        self.top += piece.top
        self._note_finish(choice)
        return piece

    def _note_finish(self, choice: dict[str, Any]) -> None:
        reason, stop = choice.get("finish_reason"), choice.get("stop_reason")
        if reason is None:
            return
        if not isinstance(reason, str):
            raise GarbageAnswer("the answer's finish_reason is not a string")
        if reason == "error":
            raise GrammarFailed("the server ended the answer with an error")
        if reason == "abort":
            raise ServerBroken("the server aborted the answer")
        if reason not in {"stop", "length"}:
            raise GarbageAnswer(f"the server ended the answer with {reason[:40]!r}")
        self.finish_reason = reason
        self.stop_reason = stop if isinstance(stop, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one chunk adds to an answer."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    top: list[Ranked]


def read_answer(document: Any, *, max_tokens: int) -> ServerAnswer:
    """A whole chat completion; GarbageAnswer names the field that is missing or wrong."""
    completion = _mapping(document, "completion")
    answer = ServerAnswer(max_tokens=max_tokens)
    answer._note_prompt(completion)  # noqa: SLF001 - two ways into one class
    choices = _list(completion.get("choices"), "choices")
    if not choices:
        raise GarbageAnswer("the answer has no choices")
    choice = _mapping(choices[0], "choices[0]")
    message = _mapping(choice.get("message"), "message")
    answer._add(choice, message)  # noqa: SLF001
    answer.check_complete()
    return answer


def _read_piece(choice: dict[str, Any], text: str) -> Piece:
    raw = choice.get("logprobs")
    content = None if raw is None else _mapping(raw, "logprobs").get("content")
    steps = [] if content is None else _list(content, "logprobs.content")
    logprobs, top, named = [], [], []
    for step in steps:
        entry = _mapping(step, "logprobs.content[]")
        logprobs.append(_logprob(entry.get("logprob")))
        named.append(_named_id(entry.get("token")))
        ranked = entry.get("top_logprobs")
        top.append(_ranked([] if ranked is None else _list(ranked, "top_logprobs")))
    if choice.get("token_ids") is not None:
        token_ids = _ids(choice["token_ids"], "token_ids")
    else:  # older servers name the ids only beside the log-probabilities
        token_ids = [token_id for token_id in named if token_id is not None]
        if len(token_ids) != len(named):
            token_ids, logprobs, top = [], [], []
    return Piece(text=text, token_ids=token_ids, logprobs=logprobs, top=top)


def _ranked(entries: list[Any]) -> Ranked:
    ranked = []
    for item in entries:
        entry = _mapping(item, "top_logprobs[]")
        token_id = _named_id(entry.get("token"))
        if token_id is not None:
            ranked.append((token_id, _logprob(entry.get("logprob"))))
    return ranked


def _named_id(token: Any) -> int | None:
    """The id in a token that is named by its id, None for one that is spelled out."""
    if not isinstance(token, str):
        raise GarbageAnswer("the answer's logprobs hold a token that is not a string")
    digits = token.removeprefix(_NAMED_BY_ID)
    if digits == token or not (digits.isascii() and digits.isdecimal()) or len(digits) > 10:
        return None
    return int(digits)


def _logprob(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise GarbageAnswer("the answer holds a log-probability that is not a number")
    if value > LOGPROB_SLACK:
        raise GarbageAnswer(f"the answer holds a log-probability above 0 ({value:g})")
    return float(value)


def _ids(value: Any, name: str) -> list[int]:
    ids = _list(value, name)
    for item in ids:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= MAX_TOKEN_ID:
            raise GarbageAnswer(f"the answer's {name} hold something that is not a token id")
    return ids


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GarbageAnswer(f"the answer's {name} is {_kind(value)} instead of an object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise GarbageAnswer(f"the answer's {name} is {_kind(value)} instead of a list")
    return value


def _kind(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"


__all__ = ["Piece", "Ranked", "ServerAnswer", "read_answer"]
