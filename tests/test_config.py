"""coordeval.toml: found upwards, paths absolute, unknown keys refused with the nearest one."""

from pathlib import Path

import pytest

from coordeval.config import Defaults, load_defaults
from coordeval.errors import ConfigError


def test_the_nearest_file_upwards_applies_with_absolute_paths(tmp_path):
    """Paths are relative to the file that names them, wherever the command runs."""
    (tmp_path / "coordeval.toml").write_text(
        'data = "d/x.jsonl"\nframe = "unit-1000"\n[decode]\nseed = 3\n'
    )
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    got = load_defaults(inner)
    assert got.data == tmp_path / "d" / "x.jsonl"
    assert (got.frame, got.decode, got.dialect) == ("unit-1000", {"seed": 3}, None)


@pytest.mark.parametrize("key", ["data", "image_root", "prompt", "runs_dir", "synonyms"])
def test_paths_are_told_without_steps_back(tmp_path, key):
    """A path that leaves the file's folder is the plain path of what it names."""
    folder = tmp_path / "fixtures"
    folder.mkdir()
    (folder / "coordeval.toml").write_text(f'{key} = "../other/./x"\n')
    assert str(getattr(load_defaults(folder), key)) == str(tmp_path / "other" / "x")
    (folder / "coordeval.toml").write_text(f'{key} = "{tmp_path}/a/../../../../../../../../x"\n')
    assert str(getattr(load_defaults(folder), key)) == str(Path("/x"))


def test_a_dialect_file_is_told_without_steps_back(tmp_path):
    """A declared dialect is a path too; a dialect's name is none."""
    folder = tmp_path / "fixtures"
    folder.mkdir()
    (folder / "coordeval.toml").write_text('dialect = "../mine.toml"\n')
    assert load_defaults(folder).dialect == str(tmp_path / "mine.toml")


def test_a_step_back_behind_a_link_keeps_its_meaning(tmp_path):
    """`link/../x` is beside what the link leads to, not beside the link."""
    (tmp_path / "far" / "inside").mkdir(parents=True)
    (tmp_path / "far" / "x.jsonl").write_text("far")
    (tmp_path / "x.jsonl").write_text("near")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "inside")
    (tmp_path / "coordeval.toml").write_text('data = "link/../x.jsonl"\n')
    assert load_defaults(tmp_path).data.read_text() == "far"
    (tmp_path / "coordeval.toml").write_text('data = "link/../../x.jsonl"\n')
    assert load_defaults(tmp_path).data.read_text() == "near"


def test_a_file_beside_the_checkpoint_applies_but_not_one_inside(tmp_path):
    """`near` is searched from its parent upwards; its own inside may be foreign."""
    cwd, shelf = tmp_path / "cwd", tmp_path / "shelf"
    checkpoint = shelf / "ckpt"
    cwd.mkdir()
    checkpoint.mkdir(parents=True)
    (checkpoint / "coordeval.toml").write_text('data = "evil.jsonl"')
    assert load_defaults(cwd, near=checkpoint) == Defaults()
    (shelf / "coordeval.toml").write_text('data = "good.jsonl"')
    assert load_defaults(cwd, near=checkpoint).data == shelf / "good.jsonl"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('dat = "x"', "did you mean 'data'"),
        ("[decode]\ntemprature = 1", "did you mean 'temperature'"),
        ("data = 5", "'data' must be a string"),
        ("data = ", "cannot be read"),
        ("decode = 5", "must be a table"),
    ],
)
def test_mistakes_are_refused_in_one_line(tmp_path, content, message):
    """A wrong key or value names the file and what to write instead."""
    (tmp_path / "coordeval.toml").write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_defaults(tmp_path)
    assert "coordeval.toml" in str(error.value)
    assert "\n" not in str(error.value).strip() or "cannot be read" in message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('seed = "7"', r"\[decode\] seed must be int"),
        ('telemetry = "yes"', r"\[decode\] telemetry must be bool"),
        ("constrain = 1", r"\[decode\] constrain must be str"),
        ("batch_size = true", r"\[decode\] batch_size must be int"),
        ("temperature = 1" + "0" * 400, r"\[decode\] temperature is too large"),
    ],
)
def test_a_wrong_type_is_refused_where_the_file_is_read(tmp_path, line, message):
    """Whichever command reads the file, the key and its type are named."""
    (tmp_path / "coordeval.toml").write_text(f"[decode]\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        load_defaults(tmp_path)


def test_whole_numbers_do_for_floats(tmp_path):
    """`temperature = 1` is 1.0, and a seed stays whole."""
    (tmp_path / "coordeval.toml").write_text("[decode]\ntemperature = 1\nseed = 2\n")
    decode = load_defaults(tmp_path).decode
    assert decode == {"temperature": 1.0, "seed": 2}
    assert [type(value) for value in decode.values()] == [float, int]
