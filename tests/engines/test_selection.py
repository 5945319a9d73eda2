"""Promises about which samples a run covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.engines.selection import parse_selection
from coordeval.errors import ConfigError
from coordeval.records import Sample


def make(count):
    return [
        Sample(id=f"im{index}", image="x.png", width=2, height=2, objects=())
        for index in range(count)
    ]


def chosen(samples, **arguments):
    given_arguments = {"ids": None, "limit": None, "shard": None} | arguments
    return [sample.id for sample in parse_selection(**given_arguments).apply(samples)]


@given(
    count=st.integers(0, 40),
    parts=st.integers(1, 9),
    limit=st.none() | st.integers(1, 50),
    first=st.integers(0, 1),
)
def test_shards_hold_every_sample_exactly_once(count, parts, limit, first):
    """Counted from 0 or from 1, the shards of a limited set add up to it without overlap."""
    samples = make(count)
    shards = [
        chosen(samples, limit=limit, shard=f"{index}/{parts}")
        for index in range(first, first + parts)
    ]
    together = [sample_id for shard in shards for sample_id in shard]
    assert len(together) == len(set(together))
    assert set(together) == set(chosen(samples, limit=limit))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_ids_come_in_dataset_order_from_a_list_or_a_file(tmp_path):
    """Both forms select the same; blanks and repeats do no harm."""
    path = tmp_path / "ids.txt"
    path.write_text("im4\n\nim1\nim4\n", encoding="utf-8")
    assert chosen(make(6), ids="im4, im1,") == ["im1", "im4"]
    assert chosen(make(6), ids=str(path)) == ["im1", "im4"]
    by_list = parse_selection(ids="im4,im1", limit=None, shard=None).to_json()
    assert by_list == parse_selection(ids=str(path), limit=None, shard=None).to_json()


def test_limit_counts_after_ids():
    """The limit takes the first of what ids left."""
    assert chosen(make(6), ids="im4,im1,im5", limit=2) == ["im1", "im4"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"shard": "2"},
        {"shard": "3/2"},
        {"shard": "0/0"},
        {"shard": "-1/2"},
        {"shard": "a/b"},
        {"limit": 0},
        {"limit": -3},
        {"ids": " , "},
        {"ids": "im1,nothere"},
    ],
)
def test_nonsense_is_refused(arguments):
    """Unknown ids and impossible shards are usage errors, not empty runs."""
    with pytest.raises(ConfigError):
        chosen(make(6), **arguments)


def test_a_very_long_list_of_ids_is_no_file_name():
    """Ids beyond the length of a file name are still ids."""
    assert len(chosen(make(3000), ids=",".join(f"im{n}" for n in range(3000)))) == 3000
