"""Promises about finding, checking and hashing checkpoints; nothing here needs torch."""

from __future__ import annotations

import importlib.util
import json
import sys
import types

import pytest

from coordeval.engines.checkpoint import checkpoint_hash, resolve_checkpoint, text_setting
from coordeval.engines.extras import require_extra
from coordeval.engines.vllm_settings import cpu_cache_bytes
from coordeval.errors import CheckpointError, MissingExtraError


def make_checkpoint(folder, *, weights="model.safetensors"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    (folder / "tokenizer.json").write_text("{}")
    if weights:
        (folder / weights).write_bytes(b"weights" * 1000)
    return folder


@pytest.fixture
def no_hub(monkeypatch):
    """A hub that fails the test when it is asked."""

    def refuse(*_, **__):
        raise AssertionError("the hub was asked")

    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = refuse
    errors = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = type("HfHubHTTPError", (Exception,), {})
    errors.HFValidationError = type("HFValidationError", (ValueError,), {})
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return hub


@pytest.mark.parametrize(
    "source",
    [
        "gone",
        "./gone",
        "../gone/x",
        "/gone/x",
        "~/gone",
        "here/gone",
        "a/b/c",
        "",
        "gone/",
        "a b/c",
    ],
)
def test_what_looks_like_a_path_is_never_looked_up(tmp_path, monkeypatch, no_hub, source):
    """A mistyped path is told so at once, without any network."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError):
        resolve_checkpoint(source)


def test_a_hub_id_is_looked_up(tmp_path, monkeypatch, no_hub):
    """owner/name that is no folder here comes from the hub."""
    folder = make_checkpoint(tmp_path / "snapshot")
    monkeypatch.chdir(tmp_path)
    no_hub.snapshot_download = lambda *_, **__: str(folder)
    checkpoint = resolve_checkpoint("owner/some-model")
    assert (checkpoint.name, checkpoint.path) == ("some-model", folder)


def test_a_hub_that_fails_is_one_line(tmp_path, monkeypatch, no_hub):
    """Offline, or without such a model: what was tried, and no traceback."""

    def fail(*_, **__):
        raise OSError("offline\nfor good")

    monkeypatch.chdir(tmp_path)
    no_hub.snapshot_download = fail
    with pytest.raises(CheckpointError, match=r"owner/some-model: .*offline for good"):
        resolve_checkpoint("owner/some-model")


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickle_weights_are_refused(tmp_path, weights):
    """A checkpoint that could run code when it is loaded is not loaded."""
    folder = make_checkpoint(tmp_path / "c", weights=weights)
    with pytest.raises(CheckpointError, match="pickle"):
        resolve_checkpoint(str(folder))


def test_folders_that_are_no_checkpoints_are_told_apart(tmp_path):
    """No weights, no config, an adapter, a file: each has its own message."""
    bare = make_checkpoint(tmp_path / "bare", weights=None)
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        resolve_checkpoint(str(bare))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        resolve_checkpoint(str(empty))
    (empty / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="--adapter"):
        resolve_checkpoint(str(empty))
    both = make_checkpoint(tmp_path / "both")
    (both / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds an adapter"):
        resolve_checkpoint(str(both))
    with pytest.raises(CheckpointError, match="is a file"):
        resolve_checkpoint(str(bare / "config.json"))


def test_the_hash_changes_with_whatever_decides_the_output(tmp_path):
    """One changed byte anywhere in weights, config, tokenizer or template is another checkpoint."""
    folder = make_checkpoint(tmp_path / "c")
    seen = {checkpoint_hash(folder)}
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[3500] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    seen.add(checkpoint_hash(folder))
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}')
    seen.add(checkpoint_hash(folder))
    (folder / "chat_template.jinja").write_text("x")
    seen.add(checkpoint_hash(folder))
    (folder / "tokenizer.json").write_text("[]")
    seen.add(checkpoint_hash(folder))
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    seen.add(checkpoint_hash(folder))
    assert len(seen) == 6


def test_the_hash_ignores_place_and_training_leftovers(tmp_path):
    """A copied checkpoint, or one with optimizer states and logs beside it, is the same one."""
    first = make_checkpoint(tmp_path / "a")
    second = make_checkpoint(tmp_path / "b" / "c")
    (second / "optimizer.pt").write_bytes(b"x")
    (second / "trainer_state.json").write_text("{}")
    (second / "README.md").write_text("x")
    assert checkpoint_hash(first) == checkpoint_hash(second)


def test_a_missing_extra_is_one_line_with_the_command(monkeypatch):
    """Without torch the user reads what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'coordeval\[hf\]'"):
        require_extra("rollout with Hugging Face", "hf")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"text_config": {"vocab_size": 7}, "vocab_size": 9}, 7),
        ({"text_config": {"hidden_size": 7}, "vocab_size": 9}, 9),
        ({"text_config": None, "vocab_size": 9}, 9),
        ({"text_config": "llama", "vocab_size": "9"}, None),
        ({"vocab_size": 0}, None),
        ({}, None),
    ],
)
def test_settings_of_the_text_model_are_found_where_old_and_new_configurations_keep_them(
    config, wanted
):
    """The text model's own number first, else the one beside it; nonsense is none."""
    assert text_setting(config, "vocab_size") == wanted
    assert cpu_cache_bytes(config, 4096, 4) > 0


def test_the_folder_of_a_whole_training_names_its_newest_checkpoint(tmp_path):
    """Whoever names the trainer's output folder is told the checkpoint inside to name."""
    for step in (900, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"name one of them: .*checkpoint-1000$"):
        resolve_checkpoint(str(tmp_path))
