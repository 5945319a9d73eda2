"""Promises about loading: what is refused, and in which words."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from coordeval.engines.adapter_folder import check_adapter  # noqa: E402
from coordeval.engines.checkpoint import resolve_checkpoint  # noqa: E402
from coordeval.engines.hf_loading import (  # noqa: E402
    load_model,
    load_reader,
    resolve_device,
    resolve_dtype,
)
from coordeval.errors import CheckpointError, ConfigError  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def copy(checkpoint_dir, tmp_path):
    """A copy of the checkpoint to spoil."""
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint_dir, folder)
    return folder


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))


def test_another_family_of_models_is_refused(copy):
    """A text model is not silently fed images."""
    edit(copy / "config.json", model_type="llama")
    with pytest.raises(CheckpointError, match="'llama' is not supported"):
        load_reader(resolve_checkpoint(str(copy)))


def test_broken_weights_are_one_line(copy):
    """A cut download is a CheckpointError, not a traceback."""
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(resolve_checkpoint(str(copy)), device=CPU, dtype=torch.float32)


def test_pickle_beside_safetensors_is_not_touched(copy):
    """With both forms there, the pickle is never opened."""
    (copy / "pytorch_model.bin").write_bytes(b"this would fail to load")
    model = load_model(resolve_checkpoint(str(copy)), device=CPU, dtype=torch.float32)
    assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (("tokenizer.json", "tokenizer_config.json"), "has no tokenizer.*copy such files"),
        (("preprocessor_config.json",), "cannot be loaded .it has no preproc.*copy such files"),
    ],
)
def test_a_missing_part_is_one_line(missing, told, copy):
    """Each part that cannot be loaded is named."""
    for name in missing:
        (copy / name).unlink()
    with pytest.raises(CheckpointError, match=told) as caught:
        load_reader(resolve_checkpoint(str(copy)))
    assert "\n" not in str(caught.value)


def test_all_end_tokens_of_the_checkpoint_count(copy):
    """Ends are those of generation_config and the tokenizer's own."""
    edit(copy / "generation_config.json", eos_token_id=[3, 5])
    reader = load_reader(resolve_checkpoint(str(copy)))
    assert reader.end_ids == {3, 5, reader.tokenizer.eos_token_id}


def test_adapters_must_be_safetensors(tmp_path):
    """A pickled adapter is refused like a pickled checkpoint."""
    with pytest.raises(CheckpointError, match="not an adapter"):
        check_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="pickle"):
        check_adapter(tmp_path)


def test_devices_and_dtypes_resolve_by_stated_rules():
    """By itself it is fp32 on the CPU and bf16 on CUDA; what is not there is refused."""
    assert resolve_dtype("auto", CPU) == ("fp32", torch.float32)
    assert resolve_dtype("auto", torch.device("cuda")) == ("bf16", torch.bfloat16)
    assert resolve_device("cpu") == CPU
    for name in ("tpu9000", "meta", "cuda:99"):
        with pytest.raises(ConfigError):
            resolve_device(name)
    with pytest.raises(ConfigError, match="fp16"):
        resolve_dtype("fp16", CPU)


def test_an_unknown_attention_is_refused(checkpoint_dir):
    """A typo or a missing package is a usage error."""
    checkpoint = resolve_checkpoint(str(checkpoint_dir))
    with pytest.raises(ConfigError, match="attention"):
        load_model(checkpoint, device=CPU, dtype=torch.float32, attention="flesh")
    with pytest.raises(ConfigError, match="flash_attention_2"):
        load_model(checkpoint, device=CPU, dtype=torch.float32, attention="flash_attention_2")
