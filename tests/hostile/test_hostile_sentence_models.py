"""Sentence models of strangers: no code of theirs is named to the library, no pickle is read."""

import json

import pytest

from coordeval.errors import ConfigError
from coordeval.metrics.names.model_folder import require_safe_model

TRANSFORMER = {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}
DENSE = {"idx": 1, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}


def model(folder, modules=(TRANSFORMER, DENSE), **files):
    """A folder with those modules and weights; `files` are texts by name, `__` for a slash."""
    texts = {
        "modules.json": json.dumps(list(modules)),
        "config.json": '{"model_type": "bert", "activation_function": "gelu"}',
        "model.safetensors": "",
        "pytorch_model.bin": "",
        "openvino/openvino_model.bin": "",
        "2_Dense/config.json": '{"activation_function": "torch.nn.modules.activation.Tanh"}',
        "2_Dense/model.safetensors": "",
    }
    for name, text in (texts | files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    return folder


def test_honest_sentence_models_are_let_in(tmp_path):
    """Pickles beside safetensors, exports in folders of their own, and the library's own modules."""
    require_safe_model(model(tmp_path), "m")


@pytest.mark.parametrize(
    "files",
    [
        {"modules.json": json.dumps([TRANSFORMER | {"type": "evil.Evil"}])},
        {"modules.json": json.dumps([TRANSFORMER, {"path": "x", "type": "a--evil.Evil"}])},
        {"2_Dense/config.json": '{"activation_function": "antigravity.fly"}'},
        {"2_Dense/router_config.json": '{"types": {"query_0_Evil": "evil.Evil"}}'},
        {"2_Dense/wordembedding_config.json": '{"tokenizer_class": "evil.Evil"}'},
    ],
)
def test_code_that_a_sentence_model_names_is_refused(tmp_path, files):
    """A folder's own classes never reach the library, of which some versions would import them."""
    (tmp_path / "evil.py").write_text("raise SystemExit")
    with pytest.raises(ConfigError, match="names the code"):
        require_safe_model(model(tmp_path, **files), "m")


def test_a_pickle_in_any_module_is_refused(tmp_path):
    """Safetensors in the root do not excuse the pickle of a dense layer, nor of one inside it."""
    inner = {"2_Dense/model.safetensors": None, "2_Dense/pytorch_model.bin": ""}
    with pytest.raises(ConfigError, match=r"2_Dense.pytorch_model\.bin is a pickle"):
        require_safe_model(model(tmp_path / "a", **inner), "m")
    with pytest.raises(ConfigError, match="is a pickle"):
        require_safe_model(model(tmp_path / "b", **{"2_Dense/query/x.pt": ""}), "m")
    with pytest.raises(ConfigError, match="safetensors"):
        require_safe_model(
            model(tmp_path / "c", **{"model.safetensors": None, "2_Dense/model.safetensors": None}),
            "m",
        )


@pytest.mark.parametrize("place", ["../other", "/etc", "2_Dense/../../other", "..\\other"])
def test_modules_outside_the_folder_are_refused(tmp_path, place):
    """What is not hashed and not looked through is not loaded."""
    modules = (TRANSFORMER, DENSE | {"path": place})
    with pytest.raises(ConfigError, match="leads out of its folder"):
        require_safe_model(model(tmp_path, modules), "m")


@pytest.mark.parametrize("text", ["{", "[1, null]", '{"a": 1}', '[{"path": 1, "type": []}]'])
def test_nonsense_in_the_list_of_modules_is_one_line(tmp_path, text):
    """No traceback, whatever stands there."""
    folder = model(tmp_path, **{"modules.json": text})
    if text != "{":
        require_safe_model(folder, "m")
        return
    with pytest.raises(ConfigError, match=r"modules\.json cannot be read"):
        require_safe_model(folder, "m")
