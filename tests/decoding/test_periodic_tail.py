"""Periodic ends of growing sequences, against the definition written down plainly."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordeval.decoding import periodic_tail
from coordeval.decoding.periodic_tail import PeriodicTail


def plain_run(symbols, *, copies, least, max_period):
    """(period, length) of the longest run of the smallest period that ends the sequence."""
    for period in range(1, min(max_period, len(symbols) // copies) + 1):
        length = period
        while length < len(symbols) and symbols[-length - 1] == symbols[-length - 1 + period]:
            length += 1
        if length >= max(copies * period, least):
            return period, length
    return None


def first_run(symbols, *, copies, least, max_period):
    """Where the detector first fires, and with what."""
    tail = PeriodicTail(copies=copies, least_symbols=least, max_period=max_period)
    for index, symbol in enumerate(symbols):
        run = tail.push(symbol)
        if run is not None:
            return index, tuple(run)
    return None


def first_plain_run(symbols, **wanted):
    """The same by the definition, prefix by prefix."""
    for index in range(len(symbols)):
        run = plain_run(symbols[: index + 1], **wanted)
        if run is not None:
            return index, run
    return None


@st.composite
def looping_sequences(draw):
    """Something, a block several times over (cut anywhere), something else."""
    alphabet = st.integers(0, draw(st.integers(1, 4)))
    before = draw(st.lists(alphabet, max_size=40))
    block = draw(st.lists(alphabet, min_size=1, max_size=30))
    repeated = block * draw(st.integers(1, 9))
    cut = draw(st.integers(0, len(block)))
    return before + repeated[: len(repeated) - cut] + draw(st.lists(alphabet, max_size=20))


@given(
    symbols=looping_sequences(),
    copies=st.integers(3, 9),
    least=st.integers(2, 40),
    max_period=st.sampled_from([1, 2, 5, 12, 4096]),
)
@example(symbols=[0, 1, 0, 1, 0] * 4, copies=4, least=2, max_period=4096)
@settings(max_examples=400)
def test_fires_where_the_definition_first_holds(symbols, copies, least, max_period):
    """At every thresholds: the same symbol, the smallest period, the whole length of the run."""
    wanted = {"copies": copies, "least": least, "max_period": max_period}
    assert first_run(symbols, **wanted) == first_plain_run(symbols, **wanted)


@pytest.mark.parametrize("period", [1, 2, 7, 8, 9, 56, 57, 300, 399, 400, 2800, 2801, 4096])
def test_every_width_finds_its_shortest_and_longest_period(period):
    """Eight copies of a block fire at their last symbol, not one earlier."""
    rng = random.Random(period)
    block = [rng.randrange(100_000) for _ in range(period)]
    before = [rng.randrange(100_000) for _ in range(500)]
    wanted = {"copies": 8, "least": 8, "max_period": 4096}
    index = len(before) + 8 * period - 1
    assert first_run(before + block * 9, **wanted) == (index, (period, 8 * period))


def test_longer_periods_than_asked_for_are_left_alone():
    """A block of 41 symbols is no run where 40 is the longest period."""
    wanted = {"copies": 3, "least": 3, "max_period": 40}
    assert first_run(list(range(41)) * 9, **wanted) is None
    assert first_run(list(range(40)) * 9, **wanted) == (119, (40, 120))


def test_large_and_negative_symbols_are_taken_as_they_are():
    """Hashes of text pieces serve as symbols."""
    block = [hash(("a", k)) - (1 << 62) for k in range(5)]
    wanted = {"copies": 4, "least": 4, "max_period": 64}
    assert first_run([1 << 80, *block * 4], **wanted) == (20, (5, 20))


def test_a_restart_forgets_what_was_before_and_keeps_what_is_given():
    """Copies before a restart do not count; symbols handed over do."""
    tail = PeriodicTail(copies=4, least_symbols=4, max_period=64)
    assert [tail.push(1) for _ in range(3)] == [None] * 3
    tail.restart([1, 1])
    assert tail.push(1) is None
    assert tail.push(1) == (1, 4)


def test_colliding_hashes_invent_no_run(monkeypatch):
    """Windows with equal hashes are compared before a run is claimed."""
    monkeypatch.setattr(periodic_tail, "_MODULUS", 3)
    rng = random.Random(0)
    symbols = [rng.randrange(5) for _ in range(400)]
    tail = PeriodicTail(copies=3, least_symbols=3, max_period=64)
    for end, symbol in enumerate(symbols, start=1):
        run = tail.push(symbol)
        if run is not None:
            part = symbols[end - run.length : end]
            assert part[run.period :] == part[: -run.period]


def test_fewer_than_three_copies_are_refused():
    """Two copies could not be told at once, so the detector does not pretend to."""
    with pytest.raises(ValueError, match="3 copies"):
        PeriodicTail(copies=2, least_symbols=2, max_period=10)


def steps_taken(monkeypatch, symbols):
    """How many windows were looked up for a sequence."""
    count = 0
    push = periodic_tail._Scale.push

    def counted(scale, *args):
        nonlocal count
        count += 1
        return push(scale, *args)

    monkeypatch.setattr(periodic_tail._Scale, "push", counted)
    tail = PeriodicTail(copies=8, least_symbols=32, max_period=4096)
    for symbol in symbols:
        tail.push(symbol)
    monkeypatch.undo()
    return count, tail


def test_work_grows_with_the_length_and_memory_does_not_beyond_the_widths(monkeypatch):
    """At most 5 look-ups per symbol at any length; remembered windows are bounded."""
    rng = random.Random(0)
    for size in (3_000, 30_000):
        count, tail = steps_taken(monkeypatch, [rng.randrange(1000) for _ in range(size)])
        assert count <= 5 * size
    remembered = sum(len(scale._young) + len(scale._old) for scale in tail._scales)
    assert remembered <= 2 * sum(periodic_tail._widths(8, 4096))


def test_short_sequences_cost_nothing(monkeypatch):
    """Below the shortest run no window is looked up: ordinary records stay below."""
    assert steps_taken(monkeypatch, range(31))[0] == 0
