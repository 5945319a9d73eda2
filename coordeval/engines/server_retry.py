"""When to ask a server again, how long to wait before, and when to stop asking altogether."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from coordeval.engines.server_failures import ServerAway, ServerBusy, ServerFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np

MAX_WAIT_S = 60.0
GIVE_UP_AFTER = 5
"""So many requests given up in a row, with no answer in between: the server is gone."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """At most `retries` further tries, after waits of `backoff_s` x 1, 2, 4, ... with jitter."""

    retries: int = 4
    backoff_s: float = 0.5

    def wait_s(self, tries: int, failure: ServerFailure, random: np.random.Generator) -> float:
        """Seconds before the next try, after `tries` failed ones; what the server asks for wins.

        Jitter (factor 0.5 to 1.5) keeps requests that failed together from coming back together.
        Never longer than a minute.
        """
        wait_s = float(self.backoff_s * 2.0 ** min(tries - 1, 30) * random.uniform(0.5, 1.5))
        if isinstance(failure, ServerBusy) and failure.retry_after_s is not None:
            wait_s = max(failure.retry_after_s, 0.1 * wait_s)
        return min(wait_s, MAX_WAIT_S)


class Breaker:
    """Counts requests given up in a row, and trips for good at `limit`.

    Belongs to one event loop.
    """

    def __init__(self, limit: int = GIVE_UP_AFTER) -> None:
        self._limit, self._in_a_row = limit, 0
        self._tripped = asyncio.Event()
        self.reason = ""

    @property
    def tripped(self) -> bool:
        """True once the server counts as gone."""
        return self._tripped.is_set()

    def answered(self) -> None:
        """Note an answer of any kind: the server lives."""
        self._in_a_row = 0

    def gave_up(self, failure: ServerFailure) -> None:
        """Note a request that was given up."""
        if not failure.blames_server:
            self.answered()
            return
        self._in_a_row += 1
        if self._in_a_row >= self._limit and not self.tripped:
            self.trip(str(failure))

    def trip(self, reason: str) -> None:
        """Stop asking; requests that wait for their next try end at once."""
        self.reason = reason
        self._tripped.set()

    def failure(self) -> ServerFailure:
        """What a request is told that is not asked any more."""
        return ServerAway(f"not asked: the server is gone (last: {self.reason})")

    async def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the breaker trips."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tripped.wait(), seconds)


async def with_retries(
    ask: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy,
    breaker: Breaker,
    random: np.random.Generator,
) -> T:
    """The answer of `ask`, asked again after failures that may pass.

    Raises the last ServerFailure; every outcome is reported to the breaker.
    """
    tries = 0
    while True:
        if breaker.tripped:
            raise breaker.failure()
        tries += 1
        try:
            answer = await ask()
        except ServerFailure as failure:
            if failure.retryable and tries <= policy.retries and not breaker.tripped:
                await breaker.sleep(policy.wait_s(tries, failure, random))
                if not breaker.tripped:
                    continue
            breaker.gave_up(failure)
            raise
        breaker.answered()
        return answer


__all__ = ["GIVE_UP_AFTER", "MAX_WAIT_S", "Breaker", "RetryPolicy", "with_retries"]
