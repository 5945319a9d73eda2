"""`coordeval data`: exit codes, stdout and stderr of the three commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from coordeval.cli.data import app
from coordeval.cli.data_tables import printable
from coordeval.errors import CheckpointError, ConfigError, DataError

DATA = os.environ.get("COORDEVAL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="COORDEVAL_DATA is not set")
BOX = {"desc": "cat", "bbox_2d": [1, 2, 30, 40]}


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path):
    Image.new("RGB", (100, 50)).save(tmp_path / "a.jpg")
    path = tmp_path / "val.jsonl"
    path.write_text(
        json.dumps({"image": "a.jpg", "width": 100, "height": 50, "objects": [BOX]}) + "\n"
    )
    return path


@pytest.mark.parametrize("command", [[], ["convert"], ["validate"], ["stats"]])
def test_help_shows_examples(command):
    """Every command explains itself, with examples to copy."""
    result = _run(*command, "--help")
    assert result.exit_code == 0
    if command:
        assert f"coordeval data {command[0]}" in result.stdout


def test_help_loads_nothing_heavy():
    """Importing the commands loads no numpy, pillow, torch or COCO engine."""
    code = (
        "import sys, coordeval.cli.data; "
        "heavy = {'numpy', 'PIL', 'torch', 'transformers', 'pandas', 'pycocotools', 'hotcoco'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_validate_is_silent_about_a_clean_dataset(data):
    """Exit code 0, and the counts on stdout."""
    result = _run("validate", data, "--images", "open")
    assert result.exit_code == 0
    assert "1 image, 1 object, 1 image file checked: 0 errors, 0 warnings" in result.stdout


def test_validate_prints_places_and_ends_with_1(data):
    """Problems come with file:line and their kind; the exit code says so."""
    with data.open("a") as handle:
        handle.write("torn\n")
    result = _run("validate", data, "--images", "none")
    assert result.exit_code == 1
    assert f"{data}:2: error: malformed_line: " in result.stdout
    assert "1 error, 0 warnings" in result.stdout


def test_warnings_fail_unless_only_errors_count(data):
    """A degenerate box is exit code 1, and 0 with --errors-only."""
    objects = [{"desc": "x", "bbox_2d": [5, 5, 5, 5]}]
    data.write_text(json.dumps({"image": "a.jpg", "width": 100, "height": 50, "objects": objects}))
    assert _run("validate", data).exit_code == 1
    assert _run("validate", data, "--errors-only").exit_code == 0


def test_validate_json_is_one_document(data):
    """--json prints nothing else on stdout, and carries places and counts."""
    with data.open("a") as handle:
        handle.write("torn\n")
    result = _run("validate", data, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (document["ok"], document["errors"], document["problems"]) == (
        False,
        1,
        {"malformed_line": 1},
    )
    assert document["first"][0]["place"] == f"{data}:2"


def test_texts_of_datasets_cannot_steer_the_terminal(data):
    """Escape sequences, markup and half emojis of descriptions are shown, not executed."""
    objects = [{"desc": "\x1b[31m[red]\ud83d", "bbox_2d": [5, 5, 5, 5]}]
    data.write_text(json.dumps({"image": "a.jpg", "width": 9, "height": 9, "objects": objects}))
    result = _run("validate", data)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "[red]" in result.stdout
    assert printable("a\x1bb\ud83d\n") == "a\\x1bb\\ud83d\\n"
    for command in (["stats"], ["stats", "--json"], ["validate", "--json"]):
        result = _run(command[0], data, *command[1:])
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_convert_writes_and_counts(data, tmp_path):
    """Counts are printed in words, or as JSON."""
    out = tmp_path / "out" / "bins.jsonl"
    result = _run("convert", data, out, "--to", "bins", "--rounding", "outward")
    assert result.exit_code == 0
    assert "clamped" in result.stdout
    assert "widened" in result.stdout
    assert f"--image-root {tmp_path}" in result.stdout
    record = json.loads(out.read_text())
    assert record["coord_space"] == "bins"
    document = json.loads(
        _run("convert", out, tmp_path / "t.jsonl", "--to", "tokens", "--json").stdout
    )
    assert (document["images"], document["objects"], document["clamped"]) == (1, 1, 0)


def test_convert_refuses_its_input_and_unknown_frames(data):
    """The user's faults are CoordevalErrors, which the console script prints as one line."""
    assert isinstance(_run("convert", data, data).exception, DataError)
    result = _run("convert", data, data.with_name("b.jsonl"), "--frame", "nope")
    assert isinstance(result.exception, ConfigError)
    assert isinstance(_run("convert", data, "x.jsonl", "--canvas", "big").exception, ConfigError)


def test_stats_prints_tables_or_json(data):
    """Objects, classes, the token budget and the ceiling, for people and for programs."""
    result = _run("stats", data)
    assert result.exit_code == 0
    for word in ("1 image ", "cat", "recommended --max-new-tokens", "ceiling of the bin grid: AP"):
        assert word in result.stdout
    document = json.loads(_run("stats", data, "--json", "--frame", "unit-1000").stdout)
    assert (document["images"], document["classes"]) == (1, {"cat": 1})
    assert document["token_budget"]["estimated"] is True
    assert document["grid_ceiling"]["frame"] == "unit-1000"
    assert json.loads(_run("stats", data, "--json", "--no-ceiling").stdout)["grid_ceiling"] is None


def test_stats_of_an_empty_dataset(tmp_path):
    """Nothing to describe is no crash and no NaN."""
    (tmp_path / "empty.jsonl").write_text("")
    result = _run("stats", tmp_path / "empty.jsonl")
    assert result.exit_code == 0
    assert "nan" not in result.stdout.lower()
    document = json.loads(_run("stats", tmp_path / "empty.jsonl", "--json").stdout)
    assert document["objects_per_image"] is None


def test_stats_counts_with_a_real_tokenizer(data, tmp_path):
    """A tokenizer directory is loaded and gives counted, not estimated, lengths."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    from tokenizers import models, pre_tokenizers

    core = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    fast.add_special_tokens({"additional_special_tokens": [f"<|coord_{k}|>" for k in range(1000)]})
    fast.save_pretrained(tmp_path / "ckpt")
    document = json.loads(_run("stats", data, "--tokenizer", tmp_path / "ckpt", "--json").stdout)
    text = '{"objects": [{"desc": "cat", "bbox_2d": [C, C, C, C]}]}'
    assert document["token_budget"]["estimated"] is False
    assert document["token_budget"]["max"] == len(text) + 1
    missing = _run("stats", data, "--tokenizer", tmp_path / "nowhere")
    assert isinstance(missing.exception, CheckpointError)


def test_the_dataset_may_come_from_coordeval_toml(data, tmp_path, monkeypatch):
    """Without DATA the defaults file names it; without either the message says what to write."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    result = _run("stats")
    assert isinstance(result.exception, ConfigError)
    assert "coordeval.toml" in str(result.exception)
    (tmp_path / "work" / "coordeval.toml").write_text(f'data = "{data}"\n')
    assert _run("validate").exit_code == 0


@needs_data
@pytest.mark.data
def test_the_commands_run_on_real_files(tmp_path):
    """COCO to polygons in JSONL, to tokens, to statistics; the photos open."""
    root = Path(DATA) / "coco_val2017_subset"
    source = root / "instances_val2017_subset.json"
    result = _run("convert", source, tmp_path / "a.jsonl", "--geometry", "poly")
    assert "polygons to boxes: several_parts    125" in result.stdout
    assert (
        _run("convert", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--to", "tokens").exit_code == 0
    )
    checked = _run(
        "validate", tmp_path / "b.jsonl", "--image-root", root / "images", "--images", "open"
    )
    assert checked.exit_code in {0, 1}
    assert "0 errors" in checked.stdout
    stats = json.loads(_run("stats", tmp_path / "b.jsonl", "--json").stdout)
    assert (stats["images"], stats["objects"], stats["crowd"]) == (206, 1765, 21)
