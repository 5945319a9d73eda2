"""Checkpoints of strangers: no pickle is read, no code of theirs runs, templates stay in a box."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from refusals import refusal_of

from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.errors import CheckpointError, ConfigError
from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


class Evil:
    """A pickle that leaves a mark where it is loaded."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A whole checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    write_random_checkpoint(folder, config=TinyConfig(hidden=32, layers=1))
    return folder


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy to spoil, and where its code would leave a mark."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    return folder, tmp_path / "ran"


def load_all(folder):
    """Everything that a rollout loads of a checkpoint."""
    from coordeval.engines.hf_loading import load_model, load_reader

    checkpoint = resolve_checkpoint(str(folder))
    reader = load_reader(checkpoint)
    load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    return reader


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "x.pth", "x.ckpt", "x.pkl"])
def test_pickled_weights_are_refused_unopened(copy, name):
    """A checkpoint of pickles is refused by name; the pickle is never loaded."""
    folder, marker = copy
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(CheckpointError, match="pickle"):
        resolve_checkpoint(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize(
    "shard", ["evil.bin", "../evil.safetensors", "/etc/passwd", "a/b.safetensors", 5]
)
def test_an_index_that_leads_elsewhere_is_refused(copy, shard):
    """Shards are safetensors beside their index: no pickle, and no file of another folder."""
    folder, marker = copy
    (folder / "evil.bin").write_bytes(pickle.dumps(Evil(marker)))
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="leads to"):
        resolve_checkpoint(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 5000, "nope", '{"weight_map": 5}'])
def test_a_broken_index_is_one_line(copy, text):
    """An index that is none is named."""
    folder, _ = copy
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json") as caught:
        resolve_checkpoint(str(folder))
    assert "\n" not in str(caught.value)


def test_a_pickled_adapter_beside_safetensors_is_refused(tmp_path):
    """PEFT would take adapter_model.bin where no adapter_model.safetensors is; that is refused."""
    from coordeval.engines.adapter_folder import check_adapter

    marker = tmp_path / "ran"
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(CheckpointError, match="pickle"):
        check_adapter(folder)
    (folder / "other.safetensors").write_bytes(b"\0" * 8)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        check_adapter(folder)
    assert not marker.exists()


def foreign_adapter(folder, **values):
    """An adapter folder of weights that look right, whose configuration says more."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(values))
    (folder / "adapter_model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    return folder


@pytest.mark.parametrize("kind", ["XLORA", "SHADOW", "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", 5])
def test_an_adapter_leads_to_no_other_folder(tmp_path, kind):
    """Kinds of adapters whose configuration names other folders or hub ids are not loaded."""
    from coordeval.engines.adapter_folder import check_adapter

    folder = foreign_adapter(tmp_path / "a", peft_type=kind, adapters={"0": str(tmp_path)})
    with pytest.raises(CheckpointError, match="use LoRA"):
        check_adapter(folder)
    check_adapter(foreign_adapter(folder, peft_type="LORA"))


def test_an_adapter_inside_a_checkpoint_is_not_loaded_unasked(copy):
    """Transformers would put it on top of the weights, and open what it names (pickles, too)."""
    folder, marker = copy
    pickled = folder.with_name("pickled")
    pickled.mkdir()
    (pickled / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (pickled / "adapter_model.bin").write_bytes(pickle.dumps(Evil(marker)))
    foreign_adapter(folder, peft_type="XLORA", adapters={"0": str(pickled)}, hidden_size=32)
    with pytest.raises(CheckpointError, match="beside a whole checkpoint"):
        load_all(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "where",
    ["config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"],
)
def test_code_of_a_checkpoint_never_runs(copy, where):
    """`auto_map` in any of the configuration files loads no Python file of the checkpoint."""
    folder, marker = copy
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code)
    path = folder / where
    raw = json.loads(path.read_text()) if path.exists() else {}
    names = (
        "AutoConfig",
        "AutoModel",
        "AutoModelForImageTextToText",
        "AutoProcessor",
        "AutoImageProcessor",
        "AutoTokenizer",
    )
    raw["auto_map"] = dict.fromkeys(names, "evil.Evil") | {
        "AutoTokenizer": ["evil.Evil", "evil.Evil"]
    }
    path.write_text(json.dumps(raw))
    refusal_of(lambda: load_all(folder))
    assert not marker.exists()


@pytest.mark.parametrize("part", [None, "text_config", "vision_config"])
@pytest.mark.parametrize("value", ["owner/kernel", {"": "sdpa", "text_config": "owner/kernel:f"}])
def test_kernels_of_the_hub_are_refused(copy, part, value):
    """Attention that would be fetched and run is named with its key; the library's own is not."""
    folder, _ = copy
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    target = raw if part is None else raw[part]
    target["_attn_implementation"] = value
    path.write_text(json.dumps(raw))
    told = refusal_of(lambda: load_all(folder))
    assert told is not None
    assert "_attn_implementation" in told
    assert "owner/kernel" in told
    target["_attn_implementation"] = "sdpa"
    path.write_text(json.dumps(raw))
    assert refusal_of(lambda: load_all(folder)) is None


RUNS_CODE = frozenset(
    {
        "compile",
        "eval",
        "exec",
        "joblib.load",
        "os.popen",
        "os.system",
        "pickle.load",
        "pickle.loads",
        "torch.load",
        "yaml.full_load",
        "yaml.load",
        "yaml.unsafe_load",
    }
)
OWN_WIRE = "ray_wire.py"
"""What one Ray worker of a run hands to another, never a file; Ray itself pickles there."""


def test_nothing_in_the_package_runs_code_of_files():
    """No source line unpickles, evaluates or runs text, or trusts a checkpoint's code unasked."""
    import ast

    import coordeval

    for path in Path(coordeval.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                value = node.value
                assert not (isinstance(value, ast.Constant) and value.value is True), path
            elif isinstance(node, ast.Call) and path.name != OWN_WIRE:
                assert ast.unparse(node.func) not in RUNS_CODE, path
            elif isinstance(node, ast.keyword) and node.arg == "shell":
                assert ast.unparse(node.value) == "False", path


TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "{{ self._TemplateReference__context }}{{ lipsum.__globals__['os'].system('touch MARK') }}",
    "{% set x = messages.append(1) %}{{ messages }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ raise_exception('no\\nway') }}",
    "{% broken",
    "{{ undefined.attribute }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_cannot_leave_its_sandbox(copy, template):
    """Templates are Jinja in a sandbox: what reaches for Python or files is a fault of one line."""
    from coordeval.data.prompts import Prompt
    from coordeval.engines.hf_inputs import render_prompt
    from coordeval.engines.hf_loading import load_reader

    folder, marker = copy
    (folder / "chat_template.jinja").write_text(template.replace("MARK", str(marker)))
    reader = load_reader(resolve_checkpoint(str(folder)))
    prompt = Prompt(name="x", version="x", system=None, user="find")
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        render_prompt(reader.tokenizer, prompt, reader.image_token_id)
    assert "\n" not in str(caught.value)
    assert "root:" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "preprocessor_config.json",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 5000,
        '{"a": "\\ud800"}',
        "null",
        '{"image_token_id": "x", "eos_token_id": {}}',
    ],
)
def test_broken_parts_of_a_checkpoint_are_one_line(copy, name, text):
    """Whatever stands in the JSON files of a checkpoint, a refusal is one line."""
    folder, _ = copy
    (folder / name).write_text(text)
    refusal_of(lambda: load_all(folder))


@pytest.mark.parametrize(
    ("name", "part", "values"),
    [
        ("config.json", None, {"tie_word_embeddings": "x"}),
        ("config.json", "text_config", {"hidden_act": 5}),
        ("config.json", "text_config", {"num_attention_heads": 0}),
        ("config.json", "text_config", {"head_dim": 0}),
        ("config.json", "text_config", {"pad_token_id": 10**30}),
        ("tokenizer_config.json", None, {"model_max_length": "x"}),
    ],
)
def test_odd_values_in_parts_of_a_checkpoint_are_one_line(copy, name, part, values):
    """Values that no model can have are refused, whatever the libraries raise for them."""
    from coordeval.data.prompts import Prompt
    from coordeval.engines.hf_inputs import render_prompt

    folder, _ = copy
    raw = json.loads((folder / name).read_text())
    (raw if part is None else raw[part]).update(values)
    (folder / name).write_text(json.dumps(raw))
    prompt = Prompt(name="x", version="x", system=None, user="find")

    def render():
        reader = load_all(folder)
        render_prompt(reader.tokenizer, prompt, reader.image_token_id)

    with pytest.raises(CheckpointError) as caught:
        render()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hf-token", "hf_abc"),
        ("trust-remote-code", "true"),
        ("load-format", "pt"),
        ("load-format", "npcache"),
    ],
)
def test_engine_arguments_bring_no_secret_code_or_pickle(name, value):
    """Arguments for vLLM that would store a token, run code or read pickles are refused."""
    from coordeval.engines.vllm_settings import read_engine_args

    with pytest.raises(ConfigError) as caught:
        read_engine_args({name: value})
    assert "hf_abc" not in str(caught.value)
