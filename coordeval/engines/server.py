"""The server engine: a checkpoint behind any OpenAI-compatible vLLM endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coordeval import __version__
from coordeval.engines.base import error_rollout
from coordeval.engines.capabilities import PROCESSOR_FLAG
from coordeval.engines.server_address import hide_key
from coordeval.engines.server_control import needs_handshake, plan_control
from coordeval.engines.server_failures import ServerFailure
from coordeval.engines.server_http import require_httpx
from coordeval.engines.server_images import ImageFitter
from coordeval.engines.server_payload import PayloadSettings
from coordeval.engines.server_probe import ask_server
from coordeval.engines.server_retry import Breaker, RetryPolicy, with_retries
from coordeval.engines.server_session import (
    ANSWER_BYTES,
    BYTES_PER_TOKEN,
    ServerLink,
    ServerSession,
)
from coordeval.engines.server_thread import run_to_end
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coordeval.coords import CoordVocabulary
    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.decoding.token_table import TokenTable
    from coordeval.engines.base import DecodeSettings, Request
    from coordeval.engines.hf_loading import Reader
    from coordeval.engines.server_address import ServerAddress
    from coordeval.engines.server_control import ServerControl
    from coordeval.engines.server_probe import ServerFacts
    from coordeval.engines.server_prompt import PromptCheck
    from coordeval.parsers.dialects import Dialect
    from coordeval.records import Rollout


class ServerEngine:
    """Asks a server for rollouts, at most `concurrency` at a time, each yielded when it is there.

    `model` None takes the only model that is served. `reader` and `label` (its name) are of the
    local checkpoint where there is one; without it the text is taken as the server writes it and
    constraints are refused. A request that still fails after the retries of `policy` is an error
    line; where several in a row do, the server counts as gone and the rest are error lines without
    being asked. `key` is sent and never stored. `notify` hears of warnings.
    """

    def __init__(
        self,
        *,
        address: ServerAddress,
        prompt: Prompt,
        decode: DecodeSettings,
        dialect: Dialect,
        model: str | None = None,
        reader: Reader | None = None,
        pixels: PixelLimits | None = None,
        label: str | None = None,
        concurrency: int = 16,
        timeout_s: float = 300.0,
        policy: RetryPolicy | None = None,
        key: str | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        require_httpx()
        self._link = ServerLink(
            address=address,
            key=key,
            concurrency=concurrency,
            timeout_s=timeout_s,
            policy=policy or RetryPolicy(),
            max_bytes=ANSWER_BYTES + BYTES_PER_TOKEN * decode.max_new_tokens,
        )
        self._model = model
        self._prompt, self._decode, self._dialect = prompt, decode, dialect
        self._notify_raw = notify or (lambda _: None)
        self._told: set[str] = set()
        self._reader = reader
        self._images = ImageFitter(None if reader is None else reader.image_processor, pixels)
        self._table = self._make_table()
        self._label = label
        self._facts: ServerFacts | None = None
        self._control: ServerControl | None = None
        self._session: ServerSession | None = None
        self._prompt_check = self._make_prompt_check()  # a prompt that is wrong is refused early

    def _make_table(self) -> TokenTable | None:
        """The checkpoint's tokens, only where control or telemetry needs them."""
        decode, reader = self._decode, self._reader
        controls = decode.constraint.mode != "none" or decode.guard.mode != "off"
        if reader is None or not (controls or decode.telemetry):
            return None
        from coordeval.decoding.token_table import TokenTable

        return TokenTable.from_tokenizer(
            reader.tokenizer, end_ids=reader.end_ids, vocab_size=reader.vocab_size
        )

    def _make_prompt_check(self) -> PromptCheck | None:
        if self._reader is None:
            return None
        from coordeval.engines.server_prompt import PromptCheck

        return PromptCheck(self._reader, self._images.processor, self._prompt)

    @property
    def decode(self) -> DecodeSettings:
        """The settings that hold, after a default that the server cannot give was given up."""
        return self._decode

    @property
    def prompt_complaint(self) -> str | None:
        """In what the prompts that the server reads are not ours; None where nothing is known."""
        return None if self._session is None else self._session.prompt_complaint

    def connect(self, *, may_relax: bool = False) -> bool:
        """Ask the server what it is, and settle how decoding is controlled; False where it is away.

        With `may_relax`, boxes that are only ordered by default go unordered, with a warning, on a
        server that cannot order them; `decode` says so. Not once a run's settings are stored.
        Raises ConfigError for what this server cannot do: another model, a key, a constraint.
        """
        if self._facts is not None:
            return True
        ids: tuple[int, ...] = ()
        if needs_handshake(self._decode, self._table):
            assert self._table is not None
            ids = self._table.coords.token_ids[0], self._table.coords.token_ids[-1]
        try:
            facts = run_to_end(self._ask(ids))
        except ServerFailure as failure:
            self._notify(f"{self._link.address.root}: {failure}")
            return False
        if may_relax:
            self._relax(facts)
        self._settle(facts)
        return True

    def _relax(self, facts: ServerFacts) -> None:
        constraint = self._decode.constraint
        by_default = constraint.mode == "grammar" and constraint.ordered is None
        if facts.has_processor or not by_default or self._table is None:
            return
        self._decode = replace(self._decode, constraint=replace(constraint, ordered=False))
        self._notify(
            "this server keeps to the grammar, but cannot keep boxes ordered (x2 > x1, y2 > y1): "
            f"start it with {PROCESSOR_FLAG}, or give --no-ordered to do without this warning"
        )

    async def _ask(self, handshake_ids: Sequence[int]) -> ServerFacts:
        breaker, random = Breaker(), np.random.default_rng(self._decode.seed)
        async with self._link.open() as http:
            return await ask_server(
                http,
                self._link.address,
                wanted=self._model,
                handshake_ids=handshake_ids,
                image_size=self._images.always_size,
                retry=lambda ask: with_retries(
                    ask, policy=self._link.policy, breaker=breaker, random=random
                ),
            )

    def _settle(self, facts: ServerFacts) -> None:
        limit = facts.model.max_model_len
        if limit is not None and self._decode.max_new_tokens >= limit:
            raise ConfigError(
                f"{self._link.address.root}: the server holds {limit} tokens per sequence: "
                f"max-new-tokens {self._decode.max_new_tokens} leaves no room for the prompt; "
                "lower it, or raise --max-model-len of the server"
            )
        self._control = plan_control(
            self._decode, self._dialect, self._table, has_processor=facts.has_processor
        )
        payload = PayloadSettings(
            model=facts.model.id,
            prompt=self._prompt,
            decode=self._decode,
            end_ids=() if self._reader is None else self._reader.end_ids,
            extra=self._control.extra,
        )
        self._session = ServerSession(
            self._link,
            payload=payload,
            images=self._images,
            control=self._control,
            dialect=self._dialect,
            reader=self._reader,
            table=self._table,
            prompt_check=self._prompt_check,
            notify=self._notify,
        )
        self._facts = facts
        if self._label is not None and not facts.model.is_called(self._label):
            self._notify(
                f"{self._link.address.root}: serves {facts.model.id!r}"
                + (f" from {facts.model.root!r}" if facts.model.root else "")
                + f", the run is about {self._label!r}: is that the same checkpoint?"
            )

    def describe(self) -> dict[str, Any]:
        """Say what this engine is, as `Engine.describe`; the key is no part of it.

        What the server says of itself may change between two sessions of a run (another version,
        another port), so it is told, but a resumed run need not share it.
        """
        facts = self._facts
        return {
            "identity": {"name": "server"},
            "environment": {
                "url": self._link.address.root,
                "model": self._model if facts is None else facts.model.id,
                "control": None if self._control is None else self._control.name,
                "concurrency": self._link.concurrency,
            },
            "versions": {
                "coordeval": __version__,
                "httpx": require_httpx().__version__,
                "server": None if facts is None else facts.version,
            },
        }

    def vocabulary(self) -> CoordVocabulary | None:
        """Ids of the coordinate tokens; None without a local tokenizer that has them."""
        return None if self._reader is None else self._reader.coord_vocabulary()

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Rollout]]:
        """Yield rollouts as the server finishes them, in any order; every request exactly once."""
        if not requests:
            return
        if not self.connect():
            reason = f"{self._link.address.root}: the server is away, or no server of this kind"
            yield [error_rollout(request, reason) for request in requests]
            return
        assert self._session is not None
        yield from self._session.answers(requests)

    def _notify(self, message: str) -> None:
        """Tell each thing once, whichever request it is seen at first."""
        if message not in self._told:
            self._told.add(message)
            self._notify_raw(hide_key(message, self._link.key))

    def close(self) -> None:
        """Nothing stays open between two calls of `generate`."""


__all__ = ["ServerEngine"]
