"""Free text with guarded geometry lists: against a reader of its own, and against the parser."""

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vocabularies import MIXED, SHUFFLED, segmentations, text_of

from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.settings import ConstraintSettings
from coordeval.parsers import DIALECTS, parse

DRIFTING = (
    '{"objects": [{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>, <|coord_5|>]}, ',
    '{"desc": "cat", "bbox_2d": [<|coord_1|>, 第九, <|coord_3|>]}, {"desc": "no, "bbox_2d": [[<|coord_1|>], []]}',
    '{"desc": "dog", "poly":[<|coord_1|>,<|coord_2|>,<|coord_3|>]}, {"desc": "x", "poly" : [ "a", 1, null]}',
    '"desc": "\\"line\\": [", "line": [<|coord_1|>, <|coord_2|>, <|coord_3|>], "li\\u006ee": [1, 2]}',
    '{"bbox_2\\u0064": [1, 2], "desc": "a"}, {"\\u0062box_2d"\n:\t[{}], "bbox_3d": [<|coord_1|>]}',
    '{"object_1": {"desc": "q", "bbox_2d": ["<|coord_1|>", "<|coord_2|>"]}, "object_2": {"bbox_2d": ["x"]}}',
    'Here is the list: ```json {"objects": [{"desc": "cat, "bbox_2d": [}, {"desc": ""}]}``` <|im_start|>',
)

letter = {
    c: f"(?:{c}|\\\\u{''.join(f'[{h}{h.upper()}]' for h in f'{ord(c):04x}')})"
    for c in "bbox_2dpolyline"
}
OPENING = re.compile(
    rb'"(?:'
    + "|".join("".join(letter[c] for c in k) for k in ("bbox_2d", "poly", "line")).encode()
    + rb')"[ \t\n\r]*:[ \t\n\r]*\[\Z'
)
LEAST = {"b": 4, "p": 6, "l": 4}


class Reference:
    """Reads written tokens one by one, with plain loops, and says whether each was lawful."""

    def __init__(self, quoted):
        self.text, self.inside, self.quoted = b"", None, quoted

    def take(self, data, *, bin_index, plain, end):
        """True where the token fits; `inside` is (kind, count, what must come next)."""
        if self.inside is not None and (end or not (plain or bin_index is not None)):
            return False
        if self.inside is not None and bin_index is not None:
            kind, count, expect = self.inside
            if expect != "coord":
                return False
            self.inside = (kind, count + 1, "quote" if self.quoted else "after")
            return True
        was_free = self.inside is None
        for byte in data:
            if not self._byte(bytes([byte])):
                return False
        return plain or not was_free or self.inside is None

    def _byte(self, byte):
        if self.inside is None:
            self.text += byte
            found = OPENING.search(self.text[-200:])
            if found:
                raw = re.sub(rb"\\u00(..)", lambda m: bytes([int(m.group(1), 16)]), found.group())
                self.inside = (raw[1:2].decode(), 0, "gap:start")
            return True
        kind, count, expect = self.inside
        if expect == "quote":
            self.inside = (kind, count, "after")
            return byte == b'"'
        if expect == "after":
            if byte == b"," and not (kind == "b" and count == 4):
                self.inside = (kind, count, "gap:start")
                return True
            if count < LEAST[kind] or count % 2:
                return False
            return self._closing("gap:start", byte)
        if expect.startswith("close:"):
            return self._closing(expect.removeprefix("close:"), byte)
        gap = self._gap(expect, byte)
        if gap is not None:
            self.inside = (kind, count, "coord" if gap == "gap:full" and not self.quoted else gap)
            return True
        if self.quoted and byte == b'"':
            self.inside = (kind, count, "coord")
            return True
        return False

    def _closing(self, gap, byte):
        kind, count, _ = self.inside
        if byte == b"]" and gap != "gap:cr":
            self.inside, self.text = None, b"]"
            return True
        following = self._gap(gap, byte)
        if following is None:
            return False
        self.inside = (kind, count, "close:" + following)
        return True

    @staticmethod
    def _gap(gap, byte):
        """Nothing, one space, or a line break and at most 16 spaces or tabs."""
        if gap == "gap:start":
            return {b" ": "gap:full", b"\r": "gap:cr", b"\n": "gap:line0"}.get(byte)
        if gap == "gap:cr":
            return "gap:line0" if byte == b"\n" else None
        if gap.startswith("gap:line") and byte in (b" ", b"\t"):
            width = int(gap.removeprefix("gap:line"))
            return f"gap:line{width + 1}" if width < 16 else None
        return None

    def may_have_coord(self):
        return (
            self.inside is not None
            and not self.quoted
            and self.inside[2] not in ("after", "gap:cr")
            and not self.inside[2].startswith("close")
        )


def reference_allows(written, table, quoted, token_id):
    """Replays all tokens with the reference; True where the last one fits as well."""
    reader = Reference(quoted)
    for one in (*written, token_id):
        bin_index = table.bin_of(one)
        if reader.inside is not None and reader.may_have_coord():
            reader.inside = (
                (*reader.inside[:2], "coord") if bin_index is not None else reader.inside
            )
        plain = table.ordinary_bytes(one) is not None
        if not reader.take(
            table.text_bytes(one), bin_index=bin_index, plain=plain, end=one in table.end_ids
        ):
            return False
    return True


def drift(constraint, table, rng, limit):
    """Tokens that follow drifting texts where they may, and anything else where they may not."""
    state, written = constraint.start(), []
    (end,) = table.end_ids
    while len(written) < limit:
        wanted = segmentations(table, rng.choice(DRIFTING), rng)
        for aim in wanted[: rng.randint(1, len(wanted))]:
            allowed = state.allowed()
            strays = not allowed[aim] or rng.random() < 0.03
            token_id = rng.choice(np.flatnonzero(allowed).tolist()) if strays else aim
            state.advance(token_id)
            if token_id == end:
                return written, True
            written.append(token_id)
    return written, False


SETTINGS = ConstraintSettings(mode="coords")
seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from(["coordjson", "coordjson-quoted", "object-map", "object-map-bare"]))
@hypothesis_settings(max_examples=60)
def test_no_list_has_the_wrong_arity(seed, name):
    """Drifting texts, at every length: whatever the parser finds, it never finds wrong_arity."""
    rng = random.Random(seed)
    table = rng.choice([MIXED, SHUFFLED])
    constraint = compile_constraint(SETTINGS, DIALECTS[name], table)
    written, _ = drift(constraint, table, rng, 250)
    for cut in {len(written), *(rng.randrange(len(written) + 1) for _ in range(12))}:
        text = text_of(table, written[:cut]).decode("utf-8", "replace")
        parsed = parse(text, name)
        assert "wrong_arity" not in parsed.dropped_by_reason, text


@given(seeds, st.sampled_from(["coordjson", "coordjson-quoted"]))
@hypothesis_settings(max_examples=20)
def test_exactly_the_tokens_of_the_reference_are_allowed(seed, name):
    """At places within drifting texts the mask equals a byte by byte reading of all that stands."""
    rng = random.Random(seed)
    constraint = compile_constraint(SETTINGS, DIALECTS[name], MIXED)
    written, _ = drift(constraint, MIXED, rng, 60)
    cut = rng.randrange(len(written) + 1)
    state = constraint.start()
    for token_id in written[:cut]:
        state.advance(token_id)
    allowed = state.allowed()
    tail = written[max(0, cut - 60) : cut]
    sample = rng.sample(range(MIXED.vocab_size - 1), 150) + [
        i
        for i in range(MIXED.vocab_size - 1)
        if b"[" in MIXED.text_bytes(i) or b"," in MIXED.text_bytes(i)
    ]
    for token_id in {*sample, *MIXED.end_ids}:
        expected = reference_allows(
            tail if cut <= 60 else written[:cut], MIXED, "quoted" in name, token_id
        )
        assert allowed[token_id] == expected, (
            text_of(MIXED, written[:cut])[-80:],
            MIXED.text_bytes(token_id),
        )


def state_after(text, name="coordjson", table=MIXED, settings=SETTINGS):
    state = compile_constraint(settings, DIALECTS[name], table).start()
    for token_id in segmentations(table, text, random.Random(1)):
        state.advance(token_id)
    return state


def test_free_text_is_free():
    """Outside lists every token is allowed, special and coordinate tokens and the end included."""
    opens = re.compile(rb'": ?\[.')
    may_be_refused = {i for i in range(MIXED.vocab_size) if opens.search(MIXED.text_bytes(i))}
    for text in ("", 'prose "', '{"desc": "never closed', '{"bbox_3d": [<|coord_1|>'):
        refused = set(np.flatnonzero(~state_after(text).allowed()).tolist())
        assert refused <= may_be_refused


def test_a_special_token_that_would_open_a_list_is_refused():
    """An added token may hold any text; one that holds a list's opening breaks it at once."""
    odd = next(i for i in range(MIXED.vocab_size) if b"odd" in MIXED.text_bytes(i))
    assert not state_after("").allowed()[odd]
    with pytest.raises(ValueError, match="not allowed"):
        state_after("").advance(odd)


@pytest.mark.parametrize(
    "opening", ['"bbox_2d": [', '"bbox_2d"\n :[', '"desc": "x, "bbox_2d": [', '"bbo\\u0078_2d":[']
)
def test_in_a_list_only_its_own_is_allowed(opening):
    """Coordinates, spaces, nothing else: no end, no special token, no quote, no bracket."""
    mask = state_after(opening).allowed()
    allowed = {MIXED.text_bytes(i) for i in np.flatnonzero(mask).tolist()}
    coords = {MIXED.text_bytes(i) for i in MIXED.coords.token_ids}
    assert coords <= allowed
    assert all(not piece.strip() for piece in allowed - coords)


def test_separators_follow_the_arity():
    """A comma until the arity is reached, then `]`; more points only where the geometry has them."""
    four = "<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>"
    comma, close = ord(","), ord("]")
    for kind, text, expected in (
        ("bbox_2d", "<|coord_1|>", (True, False)),
        ("bbox_2d", four, (False, True)),
        ("line", four, (True, True)),
        ("poly", four, (True, False)),
        ("poly", four + ", <|coord_9|>", (True, False)),
        ("poly", four + ",<|coord_9|>,\n  <|coord_9|>", (True, True)),
    ):
        mask = state_after(f'"{kind}": [{text}').allowed()
        assert (mask[comma], mask[close]) == expected, (kind, text)


def test_only_the_chosen_geometries_are_guarded_and_points_are_bounded():
    """`geometries` and `max_points` hold in this mode too."""
    settings = ConstraintSettings(mode="coords", geometries=("poly",), max_points=3)
    assert state_after('"bbox_2d": [', settings=settings).allowed()[ord("x")]
    full = '"poly": [' + ", ".join(["<|coord_1|>"] * 6)
    assert not state_after(full, settings=settings).allowed()[ord(",")]


def test_ordered_boxes_where_they_are_asked_for():
    """Off by default in this mode; with `ordered` x2 lies beyond x1."""
    text = '"bbox_2d": [<|coord_500|>, <|coord_1|>, '
    low = MIXED.coords.token_ids[500]
    assert state_after(text).allowed()[low]
    ordered = state_after(text, settings=ConstraintSettings(mode="coords", ordered=True)).allowed()
    assert not ordered[low]
    assert ordered[MIXED.coords.token_ids[501]]


def test_blanks_in_a_list_are_bounded():
    """One space, or a line break and 16 blanks: then only a coordinate is left."""
    for blank, full in ((" ", 1), ("\n" + " " * 15, 0), ("\r\n" + "\t" * 16, 1)):
        mask = state_after('"line": [<|coord_1|>,' + blank).allowed()
        assert mask[list(MIXED.coords.token_ids)].all()
        assert not (full and mask[ord(" ")])
        assert full or mask[ord(" ")]
