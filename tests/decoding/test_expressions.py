"""Code points, escapes and words as automata, against Python's own reading of the same text."""

import json
import unicodedata

import pytest

from coordeval.decoding.automaton import DEAD, Automaton
from coordeval.decoding.descriptions import closed_description, open_description
from coordeval.decoding.expressions import End, Points, hex_numbers, in_utf8, seq
from coordeval.errors import ConfigError

ASTRAL = (0x10000, 0x1F600, 0xFFFFF, 0x100000, 0x10FFFF, 0x2A6D6)


def acceptor(expr):
    automaton = Automaton()
    start = automaton.begin(seq(expr, End()))
    return lambda data: automaton.accepts[automaton.walk(start, data)]


@pytest.fixture(scope="module")
def describes():
    return acceptor(open_description())


def fits(text):
    """What a description may hold: not blank, and no control character."""
    return bool(text.strip()) and not any(unicodedata.category(c) == "Cc" for c in text)


def test_every_code_point_stands_raw_where_it_may(describes):
    """Raw characters are allowed exactly if they are neither control characters nor JSON's own."""
    for point in (*range(0xD800), *range(0xE000, 0x10000), *ASTRAL):
        character = chr(point)
        own = character in '"\\'
        assert describes(f'"{character}"'.encode()) == (fits(character) and not own), hex(point)
        assert describes(f'"a{character}"'.encode()) == (fits("a" + character) and not own)


def test_every_code_point_stands_escaped_where_it_may(describes):
    r"""`\uXXXX` is judged as the character that it spells, in either case of its digits."""
    for point in (*range(0, 0xD800, 7), *range(0x3100), *range(0xE000, 0x10000, 11), 0xFFFF):
        for digits in (f"{point:04x}", f"{point:04X}"):
            assert describes(f'"\\u{digits}"'.encode()) == fits(chr(point)), hex(point)


@pytest.mark.parametrize(
    "text", ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\udc00\\ud800", "\\ud83dx"]
)
def test_half_a_surrogate_pair_is_refused(describes, text):
    """Only a high surrogate followed by a low one spells a character."""
    assert not describes(f'"a{text}"'.encode())


def test_whole_surrogate_pairs_and_short_escapes_pass(describes):
    r"""Pairs, `\"`, `\\` and `\/` are allowed; escapes of control characters are not."""
    for text in ("\\ud83d\\ude00", "\\uDBFF\\uDFFF", '\\"', "\\\\", "\\/"):
        assert describes(f'"{text}"'.encode())
    for text in ("\\n", "\\t", "\\b", "\\f", "\\r", "\\u000a", "\\u0085", "\\x41", "\\u12", "\\"):
        assert not describes(f'"a{text}"'.encode())


@pytest.mark.parametrize(
    "data",
    [b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xff"', b'"\x80"', b'"\xe4\xb8"'],
)
def test_invalid_utf8_is_refused(describes, data):
    """Overlong forms, surrogates, beyond Unicode, stray and missing continuation bytes."""
    assert not describes(data)


def test_byte_ranges_hold_exactly_the_given_code_points():
    """Ranges that begin and end anywhere, over all lengths of UTF-8."""
    ranges = ((0x41, 0x41), (0x7E, 0x801), (0xFFF0, 0x10010), (0x3FFFF, 0x40001))
    accepts = acceptor(in_utf8(Points(ranges)))
    near = {p + d for low, high in ranges for p in (low, high) for d in range(-70, 71)}
    for point in sorted(p for p in near if 0 <= p <= 0x10FFFF and not 0xD800 <= p <= 0xDFFF):
        assert accepts(chr(point).encode()) == any(a <= point <= b for a, b in ranges), hex(point)


def test_hexadecimal_ranges_hold_exactly_the_given_numbers():
    """Every number of four digits, in both cases."""
    ranges = ((0x20, 0x7E), (0xA1, 0x1A2B), (0xF00F, 0xFFFF))
    accepts = acceptor(hex_numbers(ranges))
    for number in range(0x10000):
        expected = any(low <= number <= high for low, high in ranges)
        assert accepts(f"{number:04x}".encode()) == expected
        assert accepts(f"{number:04X}".encode()) == expected


NAMES = ('a"b', "c\\d", "第九", "😀", "line\nbreak", "cat", "cats", "ca", "x" * 3000, "\x7f")


def test_a_class_list_is_exactly_its_json_strings():
    """Each name as json.dumps writes it is accepted; its prefixes and extensions are not."""
    accepts = acceptor(closed_description(NAMES))
    spelled = {json.dumps(name, ensure_ascii=False).encode() for name in NAMES}
    for data in spelled:
        assert accepts(data)
        for wrong in (data[:-1], data + b'"', data[:-1] + b'x"', b'"' + data[2:]):
            assert accepts(wrong) == (wrong in spelled)


def test_a_name_with_half_a_surrogate_is_refused():
    """It could not be written as UTF-8: the class list is what is wrong."""
    with pytest.raises(ConfigError, match="not valid Unicode"):
        closed_description(["ok", "\ud800"])


def test_the_dead_state_stays_dead():
    """Nothing leads out of a text that does not fit."""
    automaton = Automaton()
    start = automaton.begin(seq("ab", End()))
    assert automaton.walk(start, b"x") == DEAD
    assert automaton.walk(start, b"xab") == DEAD
    assert not automaton.row(DEAD).any()
