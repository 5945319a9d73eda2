"""Promises about prompts: what is asked, what is hashed, what a prompt file may say."""

from __future__ import annotations

import json

import pytest

from coordeval.data.pixels import PixelLimits
from coordeval.data.prompts import (
    Prompt,
    build_messages,
    default_prompt,
    load_prompt,
    parse_pixels,
)
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import DIALECTS, dialect_named

NAMES = ['a "quoted" name', "第九", "back\\slash", "naïve café", "line\nbreak"]


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_default_prompt_states_the_schema_in_the_field_order(name):
    """Whichever field the dialect writes first stands first in the prompt."""
    desc_first = default_prompt(dialect=dialect_named(name, field_order="desc_first")).user
    geometry_first = default_prompt(dialect=dialect_named(name, field_order="geometry_first")).user
    assert desc_first.index('"desc"') < desc_first.index('"bbox_2d"')
    assert geometry_first.index('"bbox_2d"') < geometry_first.index('"desc"')
    assert ('"objects"' in desc_first) == (DIALECTS[name].container == "list")


def test_default_prompts_of_all_dialects_and_variants_differ():
    """No two ways of asking share a hash."""
    prompts = [
        default_prompt(
            dialect=dialect_named(name, field_order=order), class_names=names, geometries=kinds
        )
        for name in DIALECTS
        for order in ("desc_first", "geometry_first")
        for names in (None, ["cat"])
        for kinds in (("bbox_2d",), ("bbox_2d", "poly"))
    ]
    assert len({prompt.sha256 for prompt in prompts}) == len(prompts)
    assert {prompt.version for prompt in prompts} == {"coordeval-1"}


def test_class_names_survive_any_characters():
    """A closed prompt holds a list from which JSON gives back exactly the names."""
    user = default_prompt(dialect=dialect_named("coordjson"), class_names=NAMES).user
    listed = user.split("Use only these names: ")[1].removesuffix(".")
    assert json.loads(f"[{listed}]") == NAMES
    assert "第九" in user


def test_sorted_order_is_only_asked_for_where_it_holds():
    """A random object order is not described as sorted."""
    dialect = dialect_named("coordjson")
    assert "top to bottom" in default_prompt(dialect=dialect).user
    assert "top to bottom" not in default_prompt(dialect=dialect, object_order="random").user


def test_every_geometry_that_is_asked_for_is_shown():
    """A prompt for polygons and lines shows how each is written."""
    user = default_prompt(
        dialect=dialect_named("coordjson"), geometries=("bbox_2d", "poly", "line")
    ).user
    assert all(f'"{kind}": [' in user for kind in ("bbox_2d", "poly", "line"))


BASE = {"name": "n", "version": "v", "system": "s", "user": "u"}


@pytest.mark.parametrize(
    "change",
    [
        {"system": None},
        {"system": ""},
        {"user": "U"},
        {"image_first": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_everything_that_shapes_a_prompt_changes_its_hash(change):
    """Two prompts that read differently to the model never share a hash."""
    assert Prompt(**BASE).sha256 != Prompt(**(BASE | change)).sha256


def test_labels_do_not_change_the_hash():
    """A prompt that was only renamed is the same prompt."""
    assert Prompt(**BASE).sha256 == Prompt(**(BASE | {"name": "x", "version": "y"})).sha256


def test_prompt_json_is_json_and_carries_the_hash():
    """What a run stores is plain data."""
    prompt = Prompt(**BASE, chat_template_kwargs={"a": [1]})
    stored = json.loads(json.dumps(prompt.to_json()))
    assert stored["sha256"] == prompt.sha256
    assert stored["chat_template_kwargs"] == {"a": [1]}


def test_messages_hold_one_image_in_the_asked_place():
    """The image stands before or after the text, once, and the system text goes first."""
    first = build_messages(Prompt(**BASE))
    assert [message["role"] for message in first] == ["system", "user"]
    assert [part["type"] for part in first[1]["content"]] == ["image", "text"]
    last = build_messages(Prompt(**(BASE | {"system": None, "image_first": False})))
    assert [message["role"] for message in last] == ["user"]
    assert [part["type"] for part in last[0]["content"]] == ["text", "image"]


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_prompt_file_is_read_whole(tmp_path):
    """All keys arrive, and {classes} becomes the class list."""
    path = write(
        tmp_path,
        'system = "be brief"\nuser = "find {classes} {not_classes}"\norder = "text_image"\n'
        "[chat_template]\nenable_thinking = false\n",
    )
    prompt = load_prompt(path, class_names=["cat", 'a "b"'])
    assert prompt.system == "be brief"
    assert prompt.user == 'find "cat", "a \\"b\\"" {not_classes}'
    assert prompt.image_first is False
    assert prompt.chat_template_kwargs == {"enable_thinking": False}
    assert prompt.name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('usr = "x"', "did you mean 'user'"),
        ('system = "x"', "'user' is missing"),
        ("user = 3", "must be a string"),
        ('user = "x"\norder = "both"', "order 'both'"),
        ('user = "x"\norder = ["image_text"]', "order"),
        ('user = "x {classes}"', "no class list"),
        ("user = ", "not a TOML file"),
        ('user = "x"\nchat_template = 3', "must be a table"),
        ('user = "x"\n[chat_template]\ntokenize = true', "'tokenize'"),
        ('user = "x"\n[chat_template]\nday = 2020-01-01', "not JSON"),
    ],
)
def test_a_wrong_prompt_file_is_refused_with_its_name(tmp_path, text, message):
    """Each mistake is named, together with the file."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_prompt(path)
    assert "mine.toml" in str(caught.value)


def test_a_missing_prompt_file_is_a_config_error(tmp_path):
    """A wrong path is the user's fault, not a crash."""
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_prompt(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (None, None),
        ("none", PixelLimits()),
        ("NONE", PixelLimits()),
        ("3136:1003520", PixelLimits(min_pixels=3136, max_pixels=1003520)),
        (":1003520", PixelLimits(max_pixels=1003520)),
        ("3136:", PixelLimits(min_pixels=3136)),
        ("64:64", PixelLimits(min_pixels=64, max_pixels=64)),
    ],
)
def test_pixel_limits_are_read(text, limits):
    """Not given, lifted, and bounded on either side are four different things."""
    assert parse_pixels(text) == limits


@pytest.mark.parametrize(
    "text", ["", ":", "1", "2:1", "0:5", "5:0", "-1:5", "a:b", "1:2:3", "1.5:2"]
)
def test_nonsense_pixel_limits_are_refused(text):
    """Anything else is a usage error."""
    with pytest.raises(ConfigError, match="pixels"):
        parse_pixels(text)
