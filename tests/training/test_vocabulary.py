"""Expanding a vocabulary: what is added, what stays, and what is refused."""

import hashlib
import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from coordeval.coords import NUM_BINS, CoordVocabulary, coord_token
from coordeval.errors import CheckpointError, ConfigError
from coordeval.training.tiny.model import TinyConfig, write_random_checkpoint
from coordeval.training.vocabulary.expand import expand_vocabulary
from coordeval.training.vocabulary.rows import digit_rows, fourier_rows, mean_row_norm

TINY = {"hidden": 32, "layers": 1, "heads": 2, "head_dim": 16, "feed_forward": 32}
HEAD, EMBED = "lm_head.weight", "model.language_model.embed_tokens.weight"


def config(**changes):
    """A model as small as the architecture allows."""
    return TinyConfig(**TINY, coord_features=False, vision_depth=1, **changes)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A tied checkpoint without coordinate tokens."""
    return write_random_checkpoint(
        tmp_path_factory.mktemp("bare") / "base", config=config(), coordinates=False
    )


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    """An untied one."""
    return write_random_checkpoint(
        tmp_path_factory.mktemp("untied") / "base", config=config(tied=False), coordinates=False
    )


def digest(folder):
    """Names and contents of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def tokenizer_of(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("init", ["fourier", "digits"])
def test_tokens_are_added_and_the_rest_stays(bare, tmp_path, init):
    """All 1,000 tokens become single ids behind the old ones; old rows and the input are as before."""
    before = digest(bare)
    done = expand_vocabulary(str(bare), tmp_path / "out", init=init)
    assert digest(bare) == before
    assert (done.added, done.tied) == (NUM_BINS, True)
    vocabulary = CoordVocabulary.from_tokenizer(tokenizer_of(tmp_path / "out"))
    assert (vocabulary.token_ids[0], vocabulary.token_ids[-1]) == (done.first_id, done.last_id)
    old, new = (load_file(f / "model.safetensors")[EMBED] for f in (bare, tmp_path / "out"))
    assert new.shape[0] == old.shape[0] + NUM_BINS == done.rows_after
    assert torch.equal(new[: old.shape[0]], old)
    assert new.dtype == old.dtype
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert raw["text_config"]["vocab_size"] == new.shape[0]
    for name in ("preprocessor_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).is_file()


def test_an_untied_head_gets_rows_of_its_own(untied, tmp_path):
    """Embedding and head both grow; each by its own digits' rows."""
    done = expand_vocabulary(str(untied), tmp_path / "out", init="digits")
    assert not done.tied
    tables = load_file(tmp_path / "out" / "model.safetensors")
    tokenizer = tokenizer_of(tmp_path / "out")
    zero, nine = (tokenizer(d, add_special_tokens=False)["input_ids"][0] for d in "09")
    for name in (EMBED, HEAD):
        table = tables[name]
        assert torch.equal(table[done.first_id], table[zero])
        assert torch.equal(table[done.last_id], table[nine])
    assert not torch.equal(tables[EMBED][done.first_id], tables[HEAD][done.first_id])


def test_a_second_expansion_changes_nothing(bare, tmp_path):
    """What has all tokens keeps its rows bit for bit."""
    expand_vocabulary(str(bare), tmp_path / "one", seed=3)
    again = expand_vocabulary(str(tmp_path / "one"), tmp_path / "two", seed=4, init="digits")
    assert again.added == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_rows_beyond_the_tokenizer_are_used_before_the_table_grows(bare, tmp_path):
    """A table padded beyond the tokenizer is only made as long as it must be."""
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(bare, dtype="auto")
    size = len(tokenizer_of(bare))
    model.resize_token_embeddings(size + 2 * NUM_BINS, mean_resizing=False)
    padded = tmp_path / "padded"
    padded.mkdir()
    for path in bare.iterdir():
        (padded / path.name).write_bytes(path.read_bytes())
    model.save_pretrained(padded)
    done = expand_vocabulary(str(padded), tmp_path / "out")
    assert done.rows_before == done.rows_after == size + 2 * NUM_BINS
    assert done.first_id == size


def test_the_expanded_checkpoint_decodes_and_reads_images(bare, tmp_path):
    """An expanded checkpoint is one that the engine can use at once."""
    from coordeval.engines.checkpoint import resolve_checkpoint
    from coordeval.engines.hf_loading import load_model, load_reader

    expand_vocabulary(str(bare), tmp_path / "out")
    checkpoint = resolve_checkpoint(str(tmp_path / "out"))
    reader = load_reader(checkpoint)
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    ids = torch.tensor([reader.tokenizer("a<|coord_7|>", add_special_tokens=False)["input_ids"]])
    assert ids.shape[1] == 2
    assert torch.isfinite(model(input_ids=ids).logits).all()
    assert reader.tokenizer.decode(ids[0], skip_special_tokens=True) == "a<|coord_7|>"


def test_input_and_taken_folders_are_refused(bare, tmp_path):
    """The base, a folder inside it, and a folder with content are never written to."""
    before = digest(bare)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("x")
    for out in (bare, bare / "inside", tmp_path / "taken"):
        with pytest.raises(ConfigError):
            expand_vocabulary(str(bare), out)
    assert digest(bare) == before
    assert (tmp_path / "taken" / "x").read_text() == "x"


def test_a_broken_base_leaves_nothing_behind(bare, tmp_path):
    """Weights that cannot be read are one clear line, and no half-written result."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in bare.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="broken"):
        expand_vocabulary(str(broken), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_without_its_tokenizer_is_refused(bare, tmp_path):
    """A half-downloaded checkpoint: its rows are not taken for free ones and overwritten."""
    part = tmp_path / "part"
    part.mkdir()
    for path in bare.iterdir():
        if not path.name.startswith("tokenizer"):
            (part / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        expand_vocabulary(str(part), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_lack_tensors_are_refused(bare, tmp_path):
    """What is missing is not drawn at random and written as if it had been there."""
    part = tmp_path / "part"
    part.mkdir()
    for path in bare.iterdir():
        (part / path.name).write_bytes(path.read_bytes())
    tensors = load_file(bare / "model.safetensors")
    name = next(name for name in tensors if "mlp.up_proj" in name)
    del tensors[name]
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=re.escape(f"lack 1 tensors, such as {name}")):
        expand_vocabulary(str(part), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(bare, tmp_path, monkeypatch):
    """A path below a file, a link to nowhere, a full disk: a clear error, nothing left."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "file" / "out", tmp_path / "link"):
        with pytest.raises(ConfigError, match="cannot be made"):
            expand_vocabulary(str(bare), out)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        expand_vocabulary(str(bare), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fourier_rows_fall_off_with_distance():
    """Rows have the asked norm; their likeness depends on distance alone and falls near by."""
    rows = fourier_rows(64, row_norm=0.7).double()
    assert torch.allclose(rows.norm(dim=1), torch.full((NUM_BINS,), 0.7, dtype=torch.float64))
    likeness = rows @ rows.T
    for distance in (1, 5, 100):
        diagonal = likeness.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-5)
    near = [float(likeness[0, d]) for d in range(8)]
    assert near == sorted(near, reverse=True)
    assert torch.equal(fourier_rows(64, row_norm=0.7), fourier_rows(64, row_norm=0.7))
    assert not torch.equal(fourier_rows(64, row_norm=0.7, seed=1), fourier_rows(64, row_norm=0.7))


def test_digit_rows_lie_on_the_line_between_digits():
    """Bin k is the row of 9 k / 999 on the line of the digits."""
    table = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    ids = list(range(10, 20))
    rows = digit_rows(table, ids)
    for k in (0, 1, 110, 111, 500, 998, 999):
        place = 9 * k / 999
        low = min(int(place), 8)
        share = place - low
        expected = (1 - share) * table[10 + low] + share * table[11 + low]
        assert torch.allclose(rows[k], expected, atol=1e-5)
    assert torch.allclose(rows[333], table[13], atol=1e-5)


def test_mean_norm_counts_only_old_rows():
    """The norm that new rows take is that of the rows in use."""
    table = torch.zeros(10, 4)
    table[:4] = 3.0
    table[4:] = 100.0
    assert mean_row_norm(table, 4) == pytest.approx(math.sqrt(4) * 3.0)


def test_the_command_says_what_it_did(bare, tmp_path):
    """`coordeval vocab expand` prints ids and table sizes, also as JSON."""
    from typer.testing import CliRunner

    from coordeval.cli.vocab import app

    result = CliRunner().invoke(app, ["expand", str(bare), str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    raw = json.loads(result.stdout)
    assert raw["added"] == NUM_BINS
    assert coord_token(0) in tokenizer_of(tmp_path / "out").get_vocab()
