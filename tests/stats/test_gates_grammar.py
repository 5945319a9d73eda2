"""The gate grammar: what is read, what is refused, and in which direction a gate bounds."""

import pytest

from coordeval.errors import ConfigError
from coordeval.stats.gates import Change, Limit, bad_direction, gate_of, parse_gate
from coordeval.stats.gates_files import gates_of, merge_gates, read_gates_file


@pytest.mark.parametrize(
    ("text", "key", "condition"),
    [
        ("f1/0.50/f1>=0.8", "f1/0.50/f1", Limit(operator=">=", value=0.8)),
        ("coco/AP >= 40pt", "coco/AP", Limit(operator=">=", value=0.4)),
        ("parse/drop_rate<=5%", "parse/drop_rate", Limit(operator="<=", value=0.05)),
        ("dup/loop_samples == 0", "dup/loop_samples", Limit(operator="==", value=0)),
        ("count/error_mean>-1.5", "count/error_mean", Limit(operator=">", value=-1.5)),
        ("coco/AP: >=0.4", "coco/AP", Limit(operator=">=", value=0.4)),
        ("coco/AP:-0.5pt", "coco/AP", Change(direction="fall", absolute=0.005, relative=None)),
        (
            "parse/drop_rate:+10%",
            "parse/drop_rate",
            Change(direction="rise", absolute=None, relative=0.1),
        ),
        (
            "parse/drop_rate:+10%,+0.2pt",
            "parse/drop_rate",
            Change(direction="rise", absolute=0.002, relative=0.1),
        ),
        ("dup/max_repeat:3", "dup/max_repeat", Change(direction=None, absolute=3, relative=None)),
        ("*:+-0", "*", Change(direction="both", absolute=0, relative=None)),
        (
            "parse/detail/unexpected_keys/a:b:+1",
            "parse/detail/unexpected_keys/a:b",
            Change(direction="rise", absolute=1, relative=None),
        ),
    ],
)
def test_gates_are_read(text, key, condition):
    """Limits and changes, in points, relative and in the metric's own unit."""
    gate = parse_gate(text)
    assert (gate.key, gate.text) == (key, text)
    got = gate.condition
    if isinstance(condition, Limit):
        assert (got.operator, got.value) == (condition.operator, pytest.approx(condition.value))
    else:
        assert got.direction == condition.direction
        assert got.absolute == pytest.approx(condition.absolute)
        assert got.relative == pytest.approx(condition.relative)


@pytest.mark.parametrize(
    "text",
    ["", "coco/AP", "coco/AP:", "coco/AP:fine", ">=0.8", "coco/AP>=", "coco/AP:-1pt,+2%", ":+1"],
)
def test_what_is_no_gate_is_refused(text):
    """Nothing is guessed: an unreadable gate is a configuration error."""
    with pytest.raises(ConfigError):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("coco/AP:1pt", "fall"),
        ("parse/drop_rate:1pt", "rise"),
        ("count/pred:5", "both"),
        ("count/pred:+5", "rise"),
        ("coco/AP:+-1pt", "both"),
        ("coco/AP:±1pt", "both"),
    ],
)
def test_without_a_sign_the_bad_direction_is_bounded(text, direction):
    """The catalogue knows what is worse; where it knows none, both directions are bounded."""
    gate = parse_gate(text)
    assert bad_direction(gate.key, gate.condition, text) == direction


@pytest.mark.parametrize("text", ["coco/AP:+1pt", "parse/drop_rate:-1%", "dup/loop_samples:+1pt"])
def test_a_gate_that_forbids_improvement_or_has_no_unit_is_refused(text):
    """A sign against the catalogue is a mistake, and so are points of a count."""
    gate = parse_gate(text)
    with pytest.raises(ConfigError, match=r"improvement|ratios"):
        bad_direction(gate.key, gate.condition, text)


def test_a_relative_gate_from_zero_needs_an_absolute_tolerance():
    """10 % of nothing is nothing: a configuration error, unless a tolerance stands beside it."""
    with pytest.raises(ConfigError, match="absolute"):
        parse_gate("parse/drop_rate:+10%").condition.allowed(0.0)
    assert parse_gate("parse/drop_rate:+10%,+0.2pt").condition.allowed(0.0) == pytest.approx(0.002)
    assert parse_gate("parse/drop_rate:+10%,+0.2pt").condition.allowed(0.5) == pytest.approx(0.05)


def test_gates_from_tables_and_lists():
    """Table rows hold strings, numbers or lists of them; a list holds whole gates."""
    table = {"coco/AP": ["-0.5pt", ">=0.4"], "dup/max_repeat": 3, "f1/0.50/f1": ">= 0.8"}
    assert [gate.text for gate in gates_of(table, "here")] == [
        "coco/AP:-0.5pt",
        "coco/AP>=0.4",
        "dup/max_repeat:3",
        "f1/0.50/f1>= 0.8",
    ]
    assert [gate.key for gate in gates_of(["coco/AP:-1pt"], "here")] == ["coco/AP"]
    for wrong in ("coco/AP:-1pt", {"coco/AP": True}, {"coco/AP": {}}, [1], {"coco/AP": "soon"}):
        with pytest.raises(ConfigError, match="here"):
            gates_of(wrong, "here")
    assert gate_of("coco/AP", -0.005).condition.direction == "fall"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gates.toml", '[gates]\n"coco/AP" = "-0.5pt"\n'),
        ("bare.toml", '"coco/AP" = "-0.5pt"\n'),
        ("list.toml", 'gates = ["coco/AP:-0.5pt"]\n'),
        ("gates.yaml", "gates:\n  coco/AP: -0.5pt\n"),
        ("bare.yml", "coco/AP: -0.5pt\n"),
    ],
)
def test_gates_files(tmp_path, name, content):
    """TOML and YAML, with or without the table's name."""
    path = tmp_path / name
    path.write_text(content)
    assert [gate.text for gate in read_gates_file(path)] == ["coco/AP:-0.5pt"]


def test_a_broken_gates_file_names_itself(tmp_path):
    """Missing, not TOML, not a gate: the message says which file."""
    for content in (None, "[gates", '"coco/AP" = "soon"'):
        path = tmp_path / "g.toml"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=r"g\.toml"):
            read_gates_file(path)


def test_later_sources_override_by_key():
    """A gate of the command line replaces those on its key from files, and leaves the others."""
    files = [parse_gate("coco/AP:-1pt"), parse_gate("f1/0.50/f1>=0.5")]
    merged = merge_gates(files, [parse_gate("coco/AP:-0.1pt"), parse_gate("coco/AP>=0.3")])
    assert [gate.text for gate in merged] == ["f1/0.50/f1>=0.5", "coco/AP:-0.1pt", "coco/AP>=0.3"]
