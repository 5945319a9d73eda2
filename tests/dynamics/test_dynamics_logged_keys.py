"""The table of what our own trainings log: nothing in a log is without a meaning."""

from __future__ import annotations

import pytest

from coordeval.dynamics.keys import TRAINING_KEYS, key_info, read_key
from coordeval.dynamics.logged_keys import (
    LOGGED_KEYS,
    TARGETS,
    TERMS,
    logged_key,
    logged_keys_markdown,
)
from coordeval.metrics.catalogue import describe


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("loss/soft_ce", "loss/soft_ce"),
        ("loss/A1/text_ce", "loss/<at>/<term>"),
        ("tokens/B/unlikelihood", "tokens/<at>/<term>"),
        ("coord_diag/A2/multimodal_rate", "coord_diag/<at>/<diagnostic>"),
        ("desc_token_acc/B", "<kind>_token_acc/<at>"),
        ("rollout/target/over_length", "rollout/target/over_length"),
        ("rollout/parse/dropped/wrong_arity", "rollout/<metric>"),
        ("rollout/views/parse/drop_rate", "rollout/views/<metric>"),
        ("gradmon/cos_to_total/A2/w1", "gradmon/cos_to_total/<loss>"),
        ("lr/vision/muon", "lr/<group>"),
        ("coord_diag/A3/w1", None),
        ("coord_diag/A1/none_such", None),
        ("loss/none_such", None),
        ("rollout/none_such", None),
    ],
)
def test_keys_are_found_under_their_row(key, row):
    """Families are read strictly: what only looks like a member has no row."""
    found = logged_key(key)
    assert (None if found is None else found.key) == row


def test_the_table_is_unambiguous_and_says_what_keys_alone_do_not():
    """No row stands twice, here or in the other tables, and each has a meaning."""
    keys = [info.key for info in LOGGED_KEYS]
    assert len(set(keys)) == len(keys)
    assert not {entry.key for entry in TRAINING_KEYS} & set(keys)
    assert not [key for key in keys if "<" not in key and describe(key) is not None]
    assert all(info.meaning for info in LOGGED_KEYS)
    assert len(logged_keys_markdown().splitlines()) == len(keys) + 2


def test_key_info_tells_what_the_table_does():
    """Meaning, unit and direction of a key that only our trainings log."""
    info = key_info("rollout/match/f1")
    assert (info.unit, info.better) == ("ratio", "higher")
    assert key_info("rollout/target/missed").meaning == TARGETS["missed"][0]
    assert key_info("loss/w1").meaning == TERMS["w1"]
    assert read_key("eval_loss/w1").split == "eval"
