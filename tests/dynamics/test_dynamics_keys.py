"""Raw keys of logs: split, this project's name, preference."""

import pytest

from coordeval.dynamics.keys import TRAINING_KEYS, key_info, keys_markdown, read_key
from coordeval.metrics.catalogue import CATALOGUE


@pytest.mark.parametrize(
    ("raw", "split", "key"),
    [
        ("loss", "train", "loss"),
        ("eval_loss", "eval", "loss"),
        ("eval/loss", "eval", "loss"),
        ("train/loss", "train", "loss"),
        ("eval_rollout/parse_dropped_invalid", "eval", "parse/dropped_invalid"),
        ("eval/rollout/parse_dropped_invalid", "eval", "parse/dropped_invalid"),
        ("rollout/parse_dropped_invalid", "train", "parse/dropped_invalid"),
        ("eval/parsing/parse_dropped_invalid", "eval", "parse/dropped_invalid"),
        ("eval_coord_diag/expected_bin_mae", "eval", "coord_diag/expected_bin_mae"),
        ("eval/coord_softce_w1/soft_ce", "eval", "coord_diag/soft_ce"),
        ("coord_softce_w1/loss", "train", "coord_diag/loss"),
        ("coord_diag/coord_vocab_mass_mean", "train", "coord_diag/coord_vocab_mass"),
        (
            "eval_coord_monitor/flip_coord_to_noncoord",
            "eval",
            "coord_diag/flip_coord_to_noncoord",
        ),
        ("eval_rollout/f1/0.50/f1", "eval", "f1/0.50/f1"),
        ("eval_rollout/coco/AP", "eval", "coco/AP"),
        ("eval_rollout/parse/dropped/wrong_arity", "eval", "parse/dropped/wrong_arity"),
        ("eval_det_bbox_AP", "eval", "coco/AP"),
        ("eval/detection/mAP", "eval", "coco/AP"),
        ("f1ish@0.50_f1_full_micro", "train", "f1/0.50/f1"),
        (
            "stage2_ab/channel_b/strict_drop/reason/wrong_arity",
            "train",
            "parse/dropped/wrong_arity",
        ),
        ("eval/f1/0.50/f1", "eval", "f1/0.50/f1"),
        ("lr", "train", "learning_rate"),
    ],
)
def test_names_of_other_tools_become_ours(raw, split, key):
    """Every known spelling is read as its split and this project's key."""
    name = read_key(raw)
    assert (name.split, name.key, name.known) == (split, key, True)


def test_unknown_keys_keep_their_name():
    """Nothing that a log holds is renamed by guessing."""
    assert read_key("eval/my_metric") == ("eval", "my_metric", 0, False)
    assert read_key("evaluation_speed").split == "train"
    # Free decoding's own view of coordinates is not the teacher-forced one.
    name = "rollout/coord_diag/w1"
    assert read_key(f"eval_{name}") == ("eval", name, 0, False)


def test_every_alias_of_the_catalogue_is_understood():
    """An alias without placeholder leads to the metric that lists it, or to one listing it too."""
    holders: dict[str, set[str]] = {}
    for info in CATALOGUE:
        for alias in info.aliases:
            holders.setdefault(alias, set()).add(info.key)
    for alias, keys in holders.items():
        if "<" not in alias:
            assert read_key(alias).key in keys, alias


def test_names_of_the_table_are_unambiguous():
    """No name in logs stands for two keys."""
    names = [name for entry in TRAINING_KEYS for name in entry.names]
    assert len(names) == len(set(names))


def test_units_and_directions():
    """Bins are bins, losses are losses, and a catalogue key keeps its direction."""
    assert key_info("coord_diag/expected_bin_mae").unit == "bins"
    assert key_info("loss/anything").unit == "loss"
    assert key_info("coco/AP").better == "higher"
    assert key_info("never seen").better == "none"


def test_the_docs_table_lists_every_key():
    """The generated table has one row per key."""
    assert len(keys_markdown().splitlines()) == len(TRAINING_KEYS) + 2


def test_diagnoses_of_a_channel_are_those_of_stage_1_at_their_place():
    """`coord_diag/A2/w1` has w1's unit and direction, and a name of its own."""
    plain, placed = key_info("coord_diag/w1"), key_info("coord_diag/A2/w1")
    assert (placed.unit, placed.better) == (plain.unit, plain.better) == ("ratio", "lower")
    assert placed.meaning.endswith("at A2") and placed.key == "coord_diag/A2/w1"
    assert read_key("coord_diag/B/w1") == ("train", "coord_diag/B/w1", 0, True)
    assert not read_key("coord_diag/B/none_such").known
    assert not read_key("coord_diag/C/w1").known
