"""TOML and YAML of strangers: no objects, no growth, no depth, no repeated keys, in linear time."""

import textwrap
from dataclasses import replace

import pytest

from coordeval import documents
from coordeval.config import load_defaults
from coordeval.data.class_list import read_class_list
from coordeval.data.prompts import load_prompt
from coordeval.documents import MAX_BYTES, parse_yaml, read_toml, read_yaml
from coordeval.errors import ConfigError, RunMismatchError
from coordeval.parsers.declared import read_declared
from coordeval.stats.gates_files import read_gates_file
from coordeval.training.config_file import load_config
from coordeval.training.loop.run_folder import check_folder, write_folder


def refused(read, path):
    """The refusal of a file: one line that names it."""
    with pytest.raises(ConfigError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1000
    assert str(path) in text
    return text


def toml_readers(path):
    """Every reader of TOML, on one file."""
    return {
        "defaults": lambda _: load_defaults(path.parent),
        "prompt": load_prompt,
        "gates": read_gates_file,
    }


@pytest.mark.parametrize("reader", ["defaults", "prompt", "gates"])
@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000,
        "x = " + "[" * 5000 + "]" * 5000,
        "x = " + "{a = " * 5000,
        "x = " + "9" * 5000,
        "x = 1\nx = 2",
        "x = '\0'",
        "x = 2020-99-99",
        "a." * 20_000 + "a = 1",
        "[" + "'a'." * 20_000 + "a]",
        "# " + "x" * MAX_BYTES,
        "",
    ],
    ids=[
        "open",
        "deep",
        "tables",
        "huge int",
        "twice",
        "nul",
        "date",
        "dots",
        "header",
        "large",
        "-",
    ],
)
def test_hostile_toml_is_one_line(tmp_path, reader, text):
    """Depth, digits, repeats, dotted keys and size are refused by every reader, with the file."""
    path = tmp_path / "coordeval.toml"
    path.write_text(text)
    read = toml_readers(path)[reader]
    if not text:  # the empty file is fine as defaults and as gates
        if reader == "prompt":
            refused(read, path)
        else:
            read(path)
    else:
        refused(read, path)


def test_toml_that_is_not_utf8_is_one_line(tmp_path):
    """Bytes of another encoding, and UTF-16, are refused with the file."""
    path = tmp_path / "coordeval.toml"
    for data in (b'x = "\xff"', 'x = "ä"'.encode("utf-16")):
        path.write_bytes(data)
        refused(load_prompt, path)


def test_long_dotted_words_in_texts_are_no_dotted_keys(tmp_path):
    """The limit on dotted keys leaves strings of ordinary length alone."""
    path = tmp_path / "p.toml"
    path.write_text('user = "' + "word. " * 250 + '"\n' + "a.b.c.d = 1\n")
    assert read_toml(path)["a"]["b"]["c"]["d"] == 1


TAGS = [
    "!!python/object/apply:os.system ['touch {marker}']",
    "!!python/object/new:subprocess.Popen [['touch', '{marker}']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
    "!!binary aGk=",
    "!!set {{a, b}}",
    "!!omap [a: 1]",
    "!!timestamp 2020-01-01",
    "!own x",
    '!!int ""',
    "!!bool x",
    "!!float x",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_tags_make_no_objects(tmp_path, tag):
    """A tag that would make anything but JSON's values is refused, and nothing runs."""
    marker = tmp_path / "ran"
    for name, read in (("train.yaml", load_config), ("gates.yaml", read_gates_file)):
        path = tmp_path / name
        path.write_text(f"model: {tag.format(marker=marker)}\n")
        refused(read, path)
    assert not marker.exists()


def laughs(levels, width=9):
    """Billion laughs: every level repeats the one below `width` times."""
    lines = ["l0: &l0 [" + ", ".join(["lol"] * width) + "]"]
    for level in range(1, levels):
        below = ", ".join([f"*l{level - 1}"] * width)
        lines.append(f"l{level}: &l{level} [{below}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("levels", [6, 10, 60])
def test_billion_laughs_are_refused(tmp_path, levels):
    """Aliases count as what they repeat, so that a few lines can't become billions of values."""
    path = tmp_path / "train.yaml"
    path.write_text(laughs(levels))
    assert "aliases" in refused(read_yaml, path)
    assert "aliases" in refused(load_config, path)


@pytest.mark.parametrize("text", [laughs(60), "[" * 5000, "!!set {a, b}", "\xff", "- " * 3000])
def test_the_stored_configuration_of_a_training_is_bounded_too(tmp_path, text):
    """A folder's config.yaml may be anybody's: hostile, it costs one line and names no values."""
    path = tmp_path / "train.yaml"
    path.write_text("model: m\noutput_dir: out\ndata: {train: x.jsonl}\n")
    config = load_config(path)
    out = tmp_path / "out"
    write_folder(out, replace(config, seed=config.seed + 1), {})
    with pytest.raises(RunMismatchError, match="seed: 18 there, 17 here"):
        check_folder(out, config)
    (out / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunMismatchError, match="its hash differs") as caught:
        check_folder(out, config)
    assert "\n" not in str(caught.value)


def test_merge_keys_cannot_laugh_either(tmp_path):
    """`<<` repeats values too, and is counted too."""
    lines = ["m0: &m0 {a: 1, b: 2}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    path = tmp_path / "x.yaml"
    path.write_text("\n".join(lines))
    assert "aliases" in refused(read_yaml, path)


def test_honest_aliases_and_merges_work():
    """A few anchors, aliases and merge keys are what they are in YAML; own keys win."""
    text = "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nagain: *b\n"
    read = parse_yaml(text, "x")
    assert read["use"] == {"x": 1, "y": 3}
    assert read["again"] == read["base"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("text", ["&a [*a]", "&a {x: *a}", "x: &a {y: {z: *a}}"])
def test_endless_yaml_is_refused(tmp_path, text):
    """An alias inside what it names would be a value without end."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert "inside" in refused(read_yaml, path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1500,
        "{a: " * 3000,
        "- " * 3000,
        "? " * 3000,
        "x: " + "9" * 5000,
        "a: 1\na: 2",
        "x: \0",
    ],
    ids=["seq", "map", "block", "complex", "huge int", "twice", "nul"],
)
def test_hostile_yaml_is_one_line(tmp_path, text):
    """Depth, digits, repeated keys and control characters are refused with the file."""
    path = tmp_path / "train.yaml"
    path.write_text(text)
    refused(read_yaml, path)
    refused(load_config, path)


def test_repeated_keys_are_named_at_any_depth():
    """A key that stands twice is not silently lost."""
    with pytest.raises(ConfigError, match=r"'lr' stands twice.*line 3"):
        parse_yaml(textwrap.dedent("optim:\n  lr: 1\n  lr: 2\n"), "x")


def test_yaml_dates_stay_text():
    """Only JSON's types come out: what looks like a date is a string."""
    assert parse_yaml("a: 2020-01-01\nb: 1e3\nc: 1.5\nd: yes", "x") == {
        "a": "2020-01-01",
        "b": "1e3",
        "c": 1.5,
        "d": True,
    }


def test_large_files_are_not_read(tmp_path, monkeypatch):
    """Above the limit a file is refused by its size alone; no more than the limit is held."""
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    path = tmp_path / "a.yaml"
    path.write_text("# " + "x" * 200)
    refused(read_yaml, path)
    refused(read_toml, path)


def test_devices_are_no_configurations(tmp_path):
    """An endless device in the place of a file ends at the limit."""
    link = tmp_path / "endless.toml"
    link.symlink_to("/dev/zero")
    refused(read_toml, link)


@pytest.mark.parametrize("text", ["[" * 100_000, '["' + "\\ud800" + '"', "[NaN", '{"a": 1}', "[1]"])
def test_hostile_class_lists_are_one_line(tmp_path, text):
    """A class list is a list of strings, whatever else it pretends to be."""
    path = tmp_path / "names.json"
    path.write_text(text)
    refused(read_class_list, path)


def test_messages_quote_little_of_the_file(tmp_path):
    """An error line does not repeat a megabyte of what it refuses."""
    long = "k" * 100_000
    path = tmp_path / "coordeval.toml"
    for text in (f"{long} = 1", f"[decode]\n{long} = 1", f'[gates]\n"{long}" = ">=1"'):
        path.write_text(text)
        refused(read_gates_file if "gates" in text else load_prompt, path)
    path.write_text(f"{long} = 1")
    refused(read_declared, path)
    for text in (f"{long}: 1\nmodel: x", f"model: x\nstage: {long}", f"a: *{long}"):
        path = tmp_path / "train.yaml"
        path.write_text(text)
        refused(load_config, path)
