"""Disjoint spans against asking all spans taken before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordeval.metrics.spans import DisjointSpans

spans = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda v: (v[0], v[0] + v[1]))


@given(st.lists(spans, max_size=40))
def test_a_span_is_taken_where_it_meets_none_taken_before(asked):
    """The answer is that of comparing with every span taken so far; touching is not meeting."""
    sorted_spans, taken = DisjointSpans(), []
    for start, end in asked:
        free = all(end <= other_start or other_end <= start for other_start, other_end in taken)
        assert sorted_spans.take(start, end) == free
        if free:
            taken.append((start, end))
