"""Asking a server that is known: many requests at once, each retried, each answered by one line."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from coordeval.engines.base import error_rollout, new_rollout
from coordeval.engines.hf_text import cut_at_end, decode_verbatim
from coordeval.engines.server_address import hide_key
from coordeval.engines.server_answer import ServerAnswer, read_answer
from coordeval.engines.server_failures import GrammarFailed, ServerBroken, ServerFailure
from coordeval.engines.server_http import ServerHttp, dump_body
from coordeval.engines.server_retry import Breaker, with_retries
from coordeval.engines.server_rollout import finished_rollout, text_differs
from coordeval.engines.server_thread import iterate
from coordeval.engines.vllm_settings import TOP_LOGPROBS
from coordeval.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from PIL import Image

    from coordeval.decoding.token_table import TokenTable
    from coordeval.engines.base import Request
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.server_address import ServerAddress
    from coordeval.engines.server_control import ServerControl, TextWatch, TokenWatch
    from coordeval.engines.server_images import ImageFitter
    from coordeval.engines.server_payload import PayloadSettings
    from coordeval.engines.server_prompt import PromptCheck
    from coordeval.engines.server_retry import RetryPolicy
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout

ANSWER_BYTES = 4 << 20
BYTES_PER_TOKEN = 16 << 10
"""What an answer may weigh: this much per token (20 ranked tokens beside each), and a base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLink:
    """How a server is reached: where, with which key, and how patiently."""

    address: ServerAddress
    key: str | None
    concurrency: int
    timeout_s: float
    policy: RetryPolicy
    max_bytes: int

    def open(self) -> ServerHttp:
        """A client for one event loop."""
        return ServerHttp(
            self.address,
            key=self.key,
            connections=self.concurrency,
            timeout_s=self.timeout_s,
            max_bytes=self.max_bytes,
        )


class _Exchanged(NamedTuple):
    """A finished exchange: the answer, what watched it, and the seconds it took."""

    answer: ServerAnswer
    watch: TokenWatch | TextWatch | None
    seconds: float


class ServerSession:
    """Rollouts of one run; made once the server has said what it is.

    `reader` is the local checkpoint's, `table` its tokens where control or telemetry needs them.
    `prompt_complaint` says in what the server's first prompt was not ours; None where in nothing.
    """

    def __init__(
        self,
        link: ServerLink,
        *,
        payload: PayloadSettings,
        images: ImageFitter,
        control: ServerControl,
        dialect: Dialect,
        reader: Reader | None,
        table: TokenTable | None,
        prompt_check: PromptCheck | None,
        notify: Callable[[str], None],
    ) -> None:
        self._link, self._payload, self._control = link, payload, control
        self._images = images
        self._dialect, self._reader, self._table = dialect, reader, table
        self._prompt_check, self._notify = prompt_check, notify
        self._decode = payload.decode
        self.prompt_complaint: str | None = None

    def answers(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Rollouts as they finish, all that are there in one list; every request exactly once."""

        async def ask_all(put: Callable[[Rollout], None]) -> None:
            todo, breaker = iter(requests), Breaker()

            async def work(http: ServerHttp) -> None:
                for request in todo:
                    put(await self._answer(http, request, breaker))

            async with self._link.open() as http, asyncio.TaskGroup() as group:
                for _ in range(min(self._link.concurrency, len(requests))):
                    group.create_task(work(http))

        return iterate(ask_all)

    async def _answer(self, http: ServerHttp, request: Request, breaker: Breaker) -> Rollout:
        """One rollout, whatever happens to it."""
        if breaker.tripped:
            return self._failed(request, breaker.failure())
        try:
            image = await asyncio.to_thread(self._images.load, request)
            body = await asyncio.to_thread(self._body, request, image)
        except (DataError, ValueError) as error:
            return error_rollout(request, str(error))
        try:
            exchanged = await with_retries(
                lambda: self._exchange(http, body),
                policy=self._link.policy,
                breaker=breaker,
                random=np.random.default_rng(request.seed),
            )
        except ServerFailure as failure:
            return self._failed(request, failure)
        return await asyncio.to_thread(self._finish, request, image, exchanged)

    def _body(self, request: Request, image: Image.Image) -> bytes:
        size = self._images.size_for(image)
        return dump_body(
            self._payload.body(request, image, stream=self._control.streams, image_size=size)
        )

    async def _exchange(self, http: ServerHttp, body: bytes) -> _Exchanged:
        """One try: the whole answer, or its stream up to where the loop guard ends it."""
        started, chat = time.perf_counter(), self._link.address.chat
        answer = ServerAnswer(max_tokens=self._decode.max_new_tokens)
        watch: TokenWatch | TextWatch | None = None
        if not self._control.streams:
            answer = read_answer(await http.post(chat, body), max_tokens=answer.max_tokens)
            watch = self._control.watch(answer.has_ids)
            if watch is not None:
                watch.see(answer.text, answer.token_ids)
            return _Exchanged(answer, watch, time.perf_counter() - started)
        async with http.events(chat, body) as events, aclosing(events) as documents:
            async for document in documents:
                piece = answer.add_chunk(document)
                if piece is None or not (piece.text or piece.token_ids):
                    continue
                watch = watch or self._control.watch(bool(piece.token_ids))
                if watch is not None and watch.see(piece.text, piece.token_ids):
                    return _Exchanged(answer, watch, time.perf_counter() - started)
        answer.check_complete()
        return _Exchanged(answer, watch, time.perf_counter() - started)

    def _finish(self, request: Request, image: Image.Image, exchanged: _Exchanged) -> Rollout:
        answer, watch, seconds = exchanged
        tokenizer = None if self._reader is None else self._reader.tokenizer
        self._check_reading(answer, image, tokenizer)
        limit = self._decode.max_new_tokens
        if answer.finish_reason == "length" and 0 < len(answer.token_ids) < limit:
            return error_rollout(
                request,
                f"cut at {len(answer.token_ids)} of {limit} tokens by the longest sequence that "
                "the server holds; raise its --max-model-len",
            )
        if self._reader is not None:
            broken = _end_by(answer, self._reader.end_ids)
            if broken is not None:
                return self._failed(request, broken)
        rollout = finished_rollout(request, answer, watch, tokenizer=tokenizer, seconds=seconds)
        if self._decode.telemetry and self._table is not None and rollout.token_ids:
            self._add_slots(rollout, answer, tokenizer)
        return rollout

    def _add_slots(self, rollout: Rollout, answer: ServerAnswer, tokenizer: Any) -> None:
        from coordeval.engines.top_logprobs import read_slots

        if len(answer.top) != len(answer.token_ids):
            self._notify("the server gives no ranked tokens: there is no telemetry")
            return
        assert self._table is not None
        rollout.slots = read_slots(
            rollout.token_ids or [],
            answer.ranked(TOP_LOGPROBS),
            table=self._table,
            dialect=self._dialect,
            text_of=lambda token_id: decode_verbatim([token_id], tokenizer),
        )

    def _check_reading(self, answer: ServerAnswer, image: Image.Image, tokenizer: Any) -> None:
        """Say once where the server reads prompts, or writes text, in another way than we do."""
        if self._prompt_check is not None and answer.prompt_ids is not None:
            check, self._prompt_check = self._prompt_check, None
            complaint = check.complaint(answer.prompt_ids, image)
            if complaint is not None:
                self.prompt_complaint = complaint
                self._notify(complaint)
        if text_differs(answer, tokenizer):
            self._notify(
                "the server's text is not what the checkpoint's tokenizer reads in its token ids; "
                "the ids are taken at their word: does it serve this checkpoint?"
            )

    def _failed(self, request: Request, failure: ServerFailure) -> Rollout:
        message = hide_key(" ".join(str(failure).split()), self._link.key)[:1000]
        constrains = self._decode.constraint.mode != "none"
        if isinstance(failure, GrammarFailed) and constrains:
            return new_rollout(request, "", finish_reason="grammar_error", error=message)
        if isinstance(failure, ServerBroken) and "structured_outputs" in self._control.extra:
            message += " (so fails a grammar, too, where the server's backend is not guidance)"
        return error_rollout(request, message)


def _end_by(answer: ServerAnswer, end_ids: Collection[int]) -> ServerFailure | None:
    """Cut the answer at its first end token; what is wrong where it ended without one."""
    ids, ended = cut_at_end(answer.token_ids, end_ids)
    if answer.finish_reason == "stop" and answer.has_ids and not ended:
        return GrammarFailed("the server ended the answer without one of the end tokens")
    if ended:
        answer.token_ids, answer.logprobs = ids, answer.logprobs[: len(ids)]
        answer.top, answer.finish_reason = answer.top[: len(ids)], "stop"
    return None


__all__ = ["ANSWER_BYTES", "BYTES_PER_TOKEN", "ServerLink", "ServerSession"]
