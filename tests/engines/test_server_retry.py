"""Promises about waiting and giving up."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from coordeval.engines.server_failures import RequestRefused, ServerAway, ServerBusy
from coordeval.engines.server_retry import MAX_WAIT_S, Breaker, RetryPolicy, with_retries

POLICY = RetryPolicy(retries=5, backoff_s=0.5)


def waits(seed):
    random = np.random.default_rng(seed)
    return [POLICY.wait_s(tries, ServerAway("x"), random) for tries in range(1, 12)]


def test_waits_double_within_their_jitter():
    """Each wait lies between half and one and a half of backoff x 2^k, up to a minute."""
    for seed in range(50):
        for tries, wait in enumerate(waits(seed), start=1):
            whole = 0.5 * 2 ** (tries - 1)
            assert min(0.5 * whole, MAX_WAIT_S) <= wait <= min(1.5 * whole, MAX_WAIT_S)


def test_jitter_is_seeded():
    """The same request waits the same; another one otherwise."""
    assert waits(1) == waits(1)
    assert waits(1) != waits(2)


@pytest.mark.parametrize(("asked", "expected"), [(7.0, 7.0), (1e9, MAX_WAIT_S)])
def test_what_the_server_asks_for_is_kept(asked, expected):
    """Retry-After wins, up to a minute."""
    busy = ServerBusy("x", asked)
    assert POLICY.wait_s(1, busy, np.random.default_rng(0)) == expected
    assert POLICY.wait_s(1, ServerBusy("x", None), np.random.default_rng(0)) < 1


def attempt(outcomes, breaker, policy):
    """Ask until it is over; the outcome and how often was asked."""
    asked = 0

    async def ask():
        nonlocal asked
        asked += 1
        outcome = outcomes[min(asked, len(outcomes)) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def main():
        return await with_retries(
            ask, policy=policy, breaker=breaker, random=np.random.default_rng(0)
        )

    try:
        return asyncio.run(main()), asked
    except (ServerAway, RequestRefused) as failure:
        return failure, asked


def test_answers_and_refusals_end_the_asking():
    """An answer is taken, a refusal is final, a failure is tried so many times more."""
    quick = RetryPolicy(retries=2, backoff_s=0.0)
    assert attempt([ServerAway("x"), 5], Breaker(), quick) == (5, 2)
    assert attempt([RequestRefused("no", 400)], Breaker(), quick)[1] == 1
    assert attempt([ServerAway("x")], Breaker(), quick)[1] == 3
    assert attempt([ServerAway("x")], Breaker(), RetryPolicy(retries=0))[1] == 1


def test_the_breaker_counts_failures_in_a_row():
    """An answer, or a refusal, in between starts the count anew."""
    breaker = Breaker(limit=3)
    for _ in range(5):
        breaker.gave_up(ServerAway("a"))
        breaker.gave_up(ServerAway("b"))
        breaker.answered()
        breaker.gave_up(ServerAway("a"))
        breaker.gave_up(RequestRefused("no", 404))
    assert not breaker.tripped
    for name in "abc":
        assert not breaker.tripped
        breaker.gave_up(ServerAway(name))
    assert breaker.tripped
    assert "(last: c)" in str(breaker.failure())
    assert attempt([1], breaker, POLICY)[1] == 0


def test_waiting_ends_when_the_server_counts_as_gone():
    """Requests that wait for their next try do not sit their time out."""

    async def main():
        breaker = Breaker(limit=1)

        async def away():
            raise ServerAway("away")

        waiting = asyncio.create_task(
            with_retries(
                away,
                policy=RetryPolicy(retries=9, backoff_s=50),
                breaker=breaker,
                random=np.random.default_rng(0),
            )
        )
        await asyncio.sleep(0.01)
        breaker.trip("gone")
        with pytest.raises(ServerAway):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(main())
