"""Promises about addresses and keys: what is accepted, and that secrets are never repeated."""

from __future__ import annotations

import pytest

from coordeval.engines.server_address import api_key, hide_key, parse_address
from coordeval.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "chat"),
    [
        ("http://h:8000", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1", "http://h:8000/v1/chat/completions"),
        ("  https://h/v1/  ", "https://h/v1/chat/completions"),
        ("https://h/tenant/v1", "https://h/tenant/v1/chat/completions"),
        ("http://[::1]:80", "http://[::1]:80/v1/chat/completions"),
    ],
)
def test_addresses_with_and_without_v1(url, chat):
    """Either form leads to the same place."""
    assert parse_address(url).chat == chat


@pytest.mark.parametrize(
    "url",
    [None, "", " ", "h:8000", "localhost", "ftp://h", "http://", "http://h:99999", "http://h h"],
)
def test_what_is_no_address_is_refused(url):
    """A configuration fault that shows how to write it."""
    with pytest.raises(ConfigError, match="http://"):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:pa55word@h:8000",
        "http://pa55word@h",
        "http://h/v1?api_key=pa55word",
        "http://h/#pa55word",
        "https://user:pa55word@h:bad",
        "ftp://user:pa55word@h",
        "user:pa55word@h",
    ],
)
def test_secrets_in_an_address_are_refused_and_not_repeated(url):
    """The message says where a key belongs, without what was given."""
    with pytest.raises(ConfigError) as caught:
        parse_address(url)
    assert "pa55word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:2", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.org", False),
    ],
)
def test_this_machine_is_known(url, loopback):
    """No proxy of the environment stands before it."""
    assert parse_address(url).is_loopback is loopback


def test_the_key_comes_from_the_environment():
    """Ours before OpenAI's; blanks count as none; surrounding whitespace falls away."""
    assert api_key({}) is None
    assert api_key({"OPENAI_API_KEY": "b"}) == "b"
    assert api_key({"COORDEVAL_API_KEY": " a\n", "OPENAI_API_KEY": "b"}) == "a"
    assert api_key({"COORDEVAL_API_KEY": "  ", "OPENAI_API_KEY": "b"}) == "b"


@pytest.mark.parametrize("key", ["se cret", "se\ncret", "sécret", "se\x00cret"])
def test_a_key_that_fits_no_header_is_refused_unseen(key):
    """The variable is named, its content is not."""
    with pytest.raises(ConfigError, match="COORDEVAL_API_KEY") as caught:
        api_key({"COORDEVAL_API_KEY": key})
    assert "cret" not in str(caught.value)


def test_a_repeated_key_is_blotted_out():
    """Wherever a server repeats it; a key too short to tell from words is left."""
    assert hide_key("bad key sk-1234 (sk-1234)", "sk-1234") == "bad key *** (***)"
    assert hide_key("bad key x", "x") == "bad key x"
    assert hide_key("bad key", None) == "bad key"
