"""Promises about a rollout from options to a run directory: names, settings, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordeval.data.dataset import open_dataset
from coordeval.data.prompt_choice import choose_prompt
from coordeval.data.token_budget import default_max_new_tokens
from coordeval.decoding.settings import ConstraintSettings
from coordeval.engines.budget import needed_tokens
from coordeval.engines.job import rollout_checkpoint
from coordeval.engines.options import RolloutOptions
from coordeval.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    RunIncomplete,
    RunMismatchError,
)
from coordeval.parsers.dialects import dialect_named


@pytest.fixture
def options(tmp_path, dataset_path, recording):
    """Makes options for a replay."""

    def make(**changes):
        arguments = {"checkpoint": str(recording), "data": dataset_path, "engine": "replay"}
        return RolloutOptions(**(arguments | {"runs_dir": tmp_path / "runs"} | changes))

    return make


def meta(run):
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


def test_run_json_holds_what_defines_the_run(options, dataset_path):
    """Every setting that shapes the numbers is stored, and the dataset by its hash."""
    import hashlib

    outcome = rollout_checkpoint(options(limit=3, pixels="none", frame="unit-1000"))
    stored = meta(outcome.path)
    assert stored["format"] == "coordeval-run/1"
    assert stored["checkpoint"]["hash"]
    assert stored["engine"] == {"name": "replay"}
    assert stored["dialect"]["name"] == "coordjson"
    assert stored["frame"] == "unit-1000"
    assert stored["prompt"]["user"]
    assert len(stored["prompt"]["sha256"]) == 64
    assert stored["pixels"] == {"min": None, "max": None}
    assert stored["decode"]["max_new_tokens"] == 256
    assert stored["selection"] == {"ids": None, "limit": 3, "shard": None}
    assert stored["dataset"]["sha256"] == hashlib.sha256(dataset_path.read_bytes()).hexdigest()
    assert stored["versions"]["coordeval"]
    assert stored["environment"]["batch_size"] == 8


def test_the_default_folder_is_the_cache_key(options):
    """The same settings find the same folder; every other setting another one."""
    base = rollout_checkpoint(options()).path
    assert rollout_checkpoint(options(batch_size=3)).path == base
    others = [
        {"limit": 3},
        {"frame": "unit-1000"},
        {"field_order": "geometry_first"},
        {"pixels": "none"},
        {"seed": 1},
        {"max_new_tokens": 300},
        {"shard": "0/2"},
        {"ids": "im1"},
        {"temperature": 0.5},
        {"dialect": "coordjson-bins"},
    ]
    paths = {rollout_checkpoint(options(**other)).path for other in others}
    assert len(paths | {base}) == len(others) + 1
    assert base.name.startswith("recording.jsonl-")


def test_checkpoints_share_the_settings_hash_and_never_a_folder(options, recording, tmp_path):
    """Equal settings show in the name; equal names of different checkpoints do not collide."""
    first = rollout_checkpoint(options()).path
    text = recording.read_text(encoding="utf-8")
    other = tmp_path / "other.jsonl"
    other.write_text(text.replace("im0", "im0"), encoding="utf-8")
    second = rollout_checkpoint(options(checkpoint=str(other))).path
    assert first.name.removeprefix("recording.jsonl-") == second.name.removeprefix("other.jsonl-")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    twin = folder / recording.name
    twin.write_text(text.replace("-0.1", "-0.4"), encoding="utf-8")
    third = rollout_checkpoint(options(checkpoint=str(twin))).path
    assert third != first
    assert third.name.startswith(first.name)
    assert rollout_checkpoint(options(checkpoint=str(twin))).resumed == 12


def test_an_explicit_folder_of_other_settings_is_refused(options, tmp_path):
    """--out never mixes two settings."""
    rollout_checkpoint(options(out=tmp_path / "run"))
    with pytest.raises(RunMismatchError, match="frame"):
        rollout_checkpoint(options(out=tmp_path / "run", frame="unit-1000"))


def test_batch_size_may_change_on_resuming(options, tmp_path):
    """How a run was made is on record without being part of what it is."""
    rollout_checkpoint(options(out=tmp_path / "run"))
    outcome = rollout_checkpoint(options(out=tmp_path / "run", batch_size=2))
    assert outcome.resumed == 12
    assert meta(tmp_path / "run")["environment"]["batch_size"] == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"engine": "vllm9"}, ConfigError),
        ({"dialect": "nope"}, ConfigError),
        ({"frame": "nope"}, ConfigError),
        ({"pixels": "many"}, ConfigError),
        ({"batch_size": 0}, ConfigError),
        ({"max_new_tokens": 0}, ConfigError),
        ({"samples": 2, "sample_temperature": 0.0}, ConfigError),
        ({"prompt": "gone.toml"}, ConfigError),
        ({"prompt": "closed"}, ConfigError),
        ({"checkpoint": "gone"}, DataError),
        ({"ids": "gone"}, ConfigError),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(options, tmp_path, changes, error):
    """A typo costs no time and leaves no folder."""
    with pytest.raises(error):
        rollout_checkpoint(options(**changes))
    assert not (tmp_path / "runs").exists()


def test_an_empty_dataset_is_nothing_to_roll_out(options, tmp_path):
    """Nothing selected ends with its own error, exit code 3."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(RunIncomplete, match="nothing"):
        rollout_checkpoint(options(data=empty))


class WordTokenizer:
    """One token per character, for counting."""

    def __call__(self, texts, add_special_tokens):
        assert add_special_tokens is False
        return {"input_ids": [list(text) for text in texts]}


def test_the_needed_tokens_are_those_of_the_longest_answer(samples):
    """The longest ground truth and its end token, 0 without samples."""
    from coordeval.coords import FRAMES
    from coordeval.data.canonical import sample_text
    from coordeval.parsers.dialects import dialect_named

    how = {"dialect": dialect_named("coordjson"), "frame": FRAMES["coordexp"]}
    lengths = [len(sample_text(sample, order="sorted", **how)) for sample in samples]
    assert needed_tokens(samples * 200, tokenizer=WordTokenizer(), **how) == max(lengths) + 1
    assert needed_tokens([], tokenizer=WordTokenizer(), **how) == 0


@pytest.mark.parametrize(
    ("needed", "limit"), [(0, 256), (170, 256), (171, 320), (1000, 1536), (1024, 1536)]
)
def test_the_default_limit_is_the_need_and_a_half(needed, limit):
    """1.5 times the need, rounded up to 64, at least 256."""
    assert default_max_new_tokens(needed) == limit


def test_a_mistyped_prompt_names_what_there_is():
    """A name that is no file says which names are built in."""
    dataset = open_dataset(Path(__file__).parents[2] / "fixtures" / "scenes" / "heldout.jsonl")
    with pytest.raises(ConfigError, match="neither open nor closed"):
        choose_prompt("opne", dialect_named("coordjson"), dataset.categories)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({}, CheckpointError, r"lacks 1000 .*--dialect \(qwen3vl"),
        (
            {"dialect": "qwen3vl", "constraint": ConstraintSettings(mode="grammar")},
            ConfigError,
            "--constrain grammar needs a dialect with coordinate tokens, and qwen3vl writes",
        ),
    ],
)
def test_a_checkpoint_off_the_shelf_is_told_what_it_can_do(
    options, tmp_path, settings, error, says
):
    """Without coordinate tokens: its own dialect, and no advice that would not help."""
    pytest.importorskip("torch")
    from coordeval.training.tiny.model import write_random_checkpoint

    published = write_random_checkpoint(tmp_path / "published", coordinates=False)
    scenes = Path(__file__).parents[2] / "fixtures/scenes/heldout.jsonl"
    with pytest.raises(error, match=says):
        rollout_checkpoint(options(checkpoint=str(published), data=scenes, engine="hf", **settings))
