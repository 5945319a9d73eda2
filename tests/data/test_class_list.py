"""Class lists from files."""

import json

import pytest

from coordeval.data.class_list import read_class_list
from coordeval.errors import ConfigError

ODD = ["cat", 'a "quoted" one', "back\\slash", "猫", "🐱 emoji", "two words"]


def test_lines_and_json_give_the_same_names(tmp_path):
    """One name per line, or a JSON list: the same names in the same order, repeats once."""
    (tmp_path / "names.txt").write_text("\n".join(["", *ODD, "cat", ""]), encoding="utf-8")
    (tmp_path / "names.json").write_text(json.dumps(ODD))
    assert read_class_list(tmp_path / "names.txt") == tuple(ODD)
    assert read_class_list(tmp_path / "names.json") == tuple(ODD)


def test_a_name_may_hold_a_line_break_in_json(tmp_path):
    """JSON is there for names that lines cannot hold."""
    (tmp_path / "names.json").write_text(json.dumps(["a\nb"]))
    assert read_class_list(tmp_path / "names.json") == ("a\nb",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"\n \n", "no class names"),
        ("x.json", b"[]", "no class names"),
        ("x.json", b'{"a": 1}', "list of strings"),
        ("x.json", b"[1]", "list of strings"),
        ("x.json", b"[", "not JSON"),
        ("x.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, name, content, message):
    """The error says what is wrong with the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_class_list(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    """The path stands in the error."""
    with pytest.raises(ConfigError, match=r"gone\.txt"):
        read_class_list(tmp_path / "gone.txt")
