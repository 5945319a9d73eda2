"""The sentence-transformers backend on a tiny model made here; real weights are never needed."""

import shutil

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `semantic` is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random one-layer BERT over letters with mean pooling, saved as the library saves."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("sentence")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=1.0,
    )
    BertModel(config).save_pretrained(folder / "bert")
    vocab = {word: number for number, word in enumerate(words)}
    BertTokenizerFast(vocab=vocab).save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(16, "mean")]
    SentenceTransformer(modules=modules).save(str(folder / "model"))
    return folder / "model"


def test_a_local_model_works_offline_and_its_vectors_decide(model):
    """Similarities equal the cosines of what the library itself gives."""
    from sentence_transformers import SentenceTransformer

    from coordeval.metrics.names.sentence_model import load_sentence_model

    names, classes = ["sofa", "houseplant", "doggy"], ["couch", "plant", "dog"]
    mapper = load_sentence_model(str(model), threshold=1e-6)
    vectors = SentenceTransformer(str(model), device="cpu").encode([*names, *classes])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit[:3] @ unit[3:].T
    found = mapper.match(names, classes, str)
    for row, name in enumerate(names):
        best = int(cosines[row].argmax())
        if cosines[row, best] > 1e-3:
            assert found[name].class_name == classes[best]
            assert found[name].similarity == pytest.approx(float(cosines[row, best]), abs=1e-5)
    assert found
    # A lone surrogate is no text to a tokenizer, and no crash.
    assert isinstance(mapper.match(["\ud800"], classes, str), dict)


def test_the_hash_is_of_what_decides_the_vectors(model, tmp_path):
    """A copy elsewhere has the same hash whatever its model card; another byte of weights has not."""
    from coordeval.metrics.names.sentence_model import load_sentence_model

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "README.md").write_text("other words")
    one, two = (load_sentence_model(str(folder)) for folder in (model, copy))
    assert one.sha256 == two.sha256
    assert one.to_json()["backend"].startswith("sentence-transformers ")
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_sentence_model(str(copy)).sha256 != one.sha256


def test_a_folder_is_stored_so_that_it_is_found_again(model, monkeypatch):
    """A relative path means nothing to whoever compares from another folder."""
    from coordeval.metrics.names.sentence_model import load_sentence_model

    monkeypatch.chdir(model.parent)
    assert load_sentence_model("./model").to_json()["model"] == str(model.resolve())


@pytest.mark.parametrize("name", ["./none", "nobody/none-model", "none-model", "/nowhere/model"])
def test_nothing_is_downloaded(name, monkeypatch):
    """A name that is neither a folder nor in the cache is refused without a request."""
    import socket

    from coordeval.errors import ConfigError
    from coordeval.metrics.names.sentence_model import load_sentence_model

    def refuse(*_, **__):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ConfigError, match="no such"):
        load_sentence_model(name)


def test_pickled_weights_and_other_folders_are_refused(model, tmp_path):
    """Only safetensors; a folder that holds something else is one clear line."""
    from coordeval.errors import ConfigError
    from coordeval.metrics.names.sentence_model import load_sentence_model

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        load_sentence_model(str(copy))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "x.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="not a sentence-transformers model"):
        load_sentence_model(str(tmp_path / "odd"))
    weights = model / "model.safetensors"
    (tmp_path / "odd" / "x.safetensors").unlink()
    shutil.copytree(model, tmp_path / "odd", dirs_exist_ok=True)
    (tmp_path / "odd" / "model.safetensors").write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="not a sentence-transformers model"):
        load_sentence_model(str(tmp_path / "odd"))
