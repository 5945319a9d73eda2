"""Files of synonyms: four forms, one content, and faults that say where."""

import pytest

from coordeval.data.synonym_lines import synonym_lines
from coordeval.data.synonyms_file import read_synonyms
from coordeval.errors import ConfigError

EXPECTED = {"couch": ("sofa", "settee"), "potted plant": ("houseplant",)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.toml", 'couch = ["sofa", "settee"]\n"potted plant" = ["houseplant"]\n'),
        ("s.toml", '[synonyms]\ncouch = ["sofa", "settee"]\n"potted plant" = ["houseplant"]\n'),
        ("s.TOML", 'couch = ["sofa", "settee"]\n"potted plant" = ["houseplant"]\n'),
        ("s.json", '{"couch": ["sofa", "settee"], "potted plant": ["houseplant"]}'),
        ("s.yaml", "couch: [sofa, settee]\npotted plant:\n- houseplant\n"),
        ("s.txt", "# names\n\ncouch: sofa, settee\n  potted plant :houseplant,\n"),
        ("s", "\ufeffcouch: sofa , settee\r\npotted plant: houseplant"),
    ],
)
def test_all_forms_say_the_same(tmp_path, name, text):
    """TOML (with or without its table), JSON, YAML and lines give the same groups, in order."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert read_synonyms(path) == EXPECTED
    assert list(read_synonyms(path)) == list(EXPECTED)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("s.toml", "couch = [", r"s\.toml"),
        ("s.toml", 'couch = "sofa"', "'couch' must be a list of names"),
        ("s.toml", "couch = [1]", "'couch' must be a list of names"),
        ("s.toml", 'a = ["b"]\na = ["c"]', r"s\.toml"),
        ("s.toml", "", "holds no synonyms"),
        ("s.toml", "[synonyms]\n", "holds no synonyms"),
        ("s.json", '{"couch": "sofa"}', "'couch' must be a list of names"),
        ("s.json", '["couch"]', "must be a mapping"),
        ("s.json", "{", "not a JSON file"),
        ("s.json", "{}", "holds no synonyms"),
        ("s.json", '{"couch": ["sofa"], "couch": ["settee"]}', "'couch' stands twice"),
        ("s.json", '{"synonyms": {"a": ["b"], "a": ["c"]}}', "'a' stands twice"),
        ("s.json", "[" * 1020 + "]" * 1020, r"s\.json"),
        ("s.yaml", "1: [sofa]\n", "1 must be a list of names"),
        ("s.yml", "", "holds no synonyms"),
        ("s.txt", '{"couch": ["sofa"]}', r"s\.txt:1: lists in brackets"),
        ("s.txt", "couch: [sofa, settee]", r"s\.txt:1: lists in brackets"),
        ("s.txt", "# nothing\n", "holds no synonyms"),
        ("s.txt", "couch: sofa\nchair\n", r"s\.txt:2: not of the form"),
        ("s.txt", "couch:\n", r"s\.txt:1: not of the form"),
        ("s.txt", ": sofa\n", r"s\.txt:1: not of the form"),
        ("s.txt", "a: b\na: c\n", r"s\.txt:2: 'a' has a line already"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path, name, text, match):
    """One line says file, place, and what is wanted."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=match) as caught:
        read_synonyms(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    """No traceback for a wrong path or bytes that are no text."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_synonyms(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_synonyms(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("s.toml", '# couch = ["x"]\ncouch = ["sofa"]\n\n"potted plant" = ["houseplant"]', (2, 4)),
        ("s.toml", "[synonyms]\n'couch' = ['sofa',\n'settee']\n\"potted plant\"=['x']", (2, 4)),
        ("s.toml", 'synonyms = {couch = ["sofa"], "potted plant" = ["houseplant"]}', (1, 1)),
        ("s.json", '{"couch": ["sofa"],\n "potted plant": ["houseplant"]}', (1, 2)),
        ("s.json", '{"couch":["sofa","couch"],"potted plant":["houseplant"]}', (1, 1)),
        ("s.yaml", "couch: [sofa, settee]\npotted plant:\n- houseplant\n", (1, 2)),
        ("s.txt", "\ufeff# names\n\ncouch: sofa, settee\r\n  potted plant :houseplant,\n", (3, 4)),
    ],
)
def test_the_line_of_each_group_is_known(tmp_path, name, text, lines):
    """In every form a message can say on which line a group stands."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert synonym_lines(path, read_synonyms(path)) == dict(zip(EXPECTED, lines, strict=True))


def test_a_group_in_other_spelling_has_no_line(tmp_path):
    """A key that is written with escapes is left out, not given another one's line."""
    path = tmp_path / "s.json"
    path.write_text('{"c\\u006fuch": ["sofa"],\n"k\\u00e4se": ["brie"]}')
    groups = read_synonyms(path)
    assert list(groups) == ["couch", "k\u00e4se"]
    assert synonym_lines(path, groups) == {"k\u00e4se": 2}
