"""The grammar: what it lets through is read without a drop, and what is right is let through."""

import json
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from vocabularies import BYTES_ONLY, MIXED, SHUFFLED, segmentations, table_of, text_of, write_answer

from coordeval.data.canonical import render_text
from coordeval.decoding.constraint import compile_constraint
from coordeval.decoding.settings import ConstraintSettings
from coordeval.errors import CheckpointError, ConfigError
from coordeval.parsers import DIALECTS, dialect_named, parse
from coordeval.records import GEOMETRY_KINDS, NOTE_ISSUES

TOKEN_DIALECTS = sorted(name for name, d in DIALECTS.items() if "token" in d.coordinates)
NAMES = ('a"b', "c\\d", "第九", "😀 x", "line\nbreak", "cat", "cats", ' "', "]}, {")

kinds = st.sets(st.sampled_from(GEOMETRY_KINDS), min_size=1).map(
    lambda chosen: tuple(kind for kind in GEOMETRY_KINDS if kind in chosen)
)
grammars = st.builds(
    ConstraintSettings,
    mode=st.just("grammar"),
    geometries=kinds,
    class_names=st.sampled_from([None, None, NAMES]),
    max_objects=st.sampled_from([None, None, 1, 3]),
    max_points=st.sampled_from([None, 3, 4]),
    separators=st.sampled_from(["spaced", "compact"]),
    ordered=st.sampled_from([None, None, False]),
    sorted_objects=st.booleans(),
)
dialects = st.builds(
    dialect_named,
    st.sampled_from(TOKEN_DIALECTS),
    field_order=st.sampled_from(["desc_first", "geometry_first"]),
    enforce_field_order=st.just(True),
)
tables = st.sampled_from([MIXED, MIXED, SHUFFLED, BYTES_ONLY])
seeds = st.integers(0, 2**32 - 1)


def hull_key(record):
    values = record.values
    if record.kind == "bbox_2d":
        return values[1], values[0]
    return min(values[1::2]), min(values[0::2])


def real_drops(parsed, settings):
    return {
        reason: count
        for reason, count in parsed.dropped_by_reason.items()
        if settings.orders or reason != "degenerate_box"
    }


@given(grammars, dialects, tables, seeds, st.sampled_from([0.3, 1.0]))
@hypothesis_settings(max_examples=250)
def test_every_finished_answer_conforms(settings, dialect, table, seed, eager):
    """Random logits, all options: no drop, no issue beyond notes, and the options are kept."""
    constraint = compile_constraint(settings, dialect, table)
    token_ids, ended = write_answer(
        constraint, table, np.random.default_rng(seed), eager=eager, limit=300
    )
    text = text_of(table, token_ids).decode("utf-8", "strict" if ended else "replace")
    parsed = parse(text, dialect)
    if not ended:
        assert set(real_drops(parsed, settings)) <= {"truncated_record"}, text
        return
    assert not real_drops(parsed, settings), text
    assert set(parsed.issues) <= NOTE_ISSUES, text
    spaced = settings.separators == "spaced"
    assert spaced <= ("nonstandard_spacing" not in parsed.issues)
    records = parsed.records
    if settings.max_objects is not None:
        assert len(records) <= settings.max_objects
    for record in records:
        assert record.kind in settings.geometries
        assert settings.class_names is None or record.desc in settings.class_names
        if record.kind != "bbox_2d" and settings.max_points is not None:
            assert len(record.values) <= 2 * settings.max_points
    if settings.sorted_objects and (
        dialect.container == "list" or dialect.field_order == "desc_first"
    ):
        keys = [hull_key(record) for record in records]
        assert keys == sorted(keys), text


# A description without an end that itself holds what closes a list reads like one whose quote is
# missing: `"desc": "cat]}]}`. No reader can tell the two apart.
LOOKS_CLOSED = re.compile(r'"desc": ?"(?:[^"\\]|\\.)*\}\s*[\]}](?:[^"\\]|\\.)*\\?$', re.DOTALL)


@given(grammars, dialects, seeds)
@hypothesis_settings(max_examples=80)
def test_an_answer_cut_anywhere_loses_only_what_was_cut(settings, dialect, seed):
    """A cut answer has at most one truncated record and is known to be truncated."""
    constraint = compile_constraint(settings, dialect, MIXED)
    token_ids, ended = write_answer(constraint, MIXED, np.random.default_rng(seed), limit=150)
    for cut in range(0 if not ended else len(token_ids)):
        text = text_of(MIXED, token_ids[:cut]).decode("utf-8", "replace")
        if dialect.field_order == "geometry_first" and LOOKS_CLOSED.search(text):
            continue
        parsed = parse(text, dialect)
        assert set(real_drops(parsed, settings)) <= {"truncated_record"}, text
        assert parsed.dropped_by_reason.get("truncated_record", 0) <= 1
        assert "truncated" in parsed.issues or not text.strip(), text


def random_records(rng, settings, allowed_names):
    records = []
    for _ in range(rng.randint(0, min(4, settings.max_objects or 4))):
        kind = rng.choice(settings.geometries)
        if kind == "bbox_2d":
            x1, y1 = rng.randrange(999), rng.randrange(999)
            values = [x1, y1, rng.randint(x1 + 1, 999), rng.randint(y1 + 1, 999)]
        else:
            least = 3 if kind == "poly" else 2
            points = rng.randint(least, settings.max_points or 7)
            values = [rng.randrange(1000) for _ in range(2 * points)]
            if kind == "poly":
                values[:6] = [10, 10, 500, 20, 300, 700]
                values[6:] = [10] * (len(values) - 6)
        records.append((rng.choice(allowed_names), kind, values))
    if settings.sorted_objects:

        def key(record):
            _, kind, values = record
            top = values[1] if kind == "bbox_2d" else min(values[1::2])
            return top, values[0] if kind == "bbox_2d" else min(values[0::2])

        records.sort(key=key)
    return records


@given(grammars, dialects, tables, seeds)
@hypothesis_settings(max_examples=200)
def test_every_right_answer_is_let_through_in_any_tokenisation(settings, dialect, table, seed):
    """Canonical texts of random records, cut into the vocabulary's tokens in random ways."""
    rng = random.Random(seed)
    texts = [name for name in NAMES if "\n" not in name] + [
        "\\/",
        "naïve",
        "<|coord_5|> as text",
        "\u200b",
    ]
    records = random_records(rng, settings, settings.class_names or texts)
    text = render_text(records, dialect)
    if settings.separators == "compact":
        text = json_compact(records, dialect)
    state = compile_constraint(settings, dialect, table).start()
    has_coord_text = any("coord_5" in record[0] for record in records)
    if has_coord_text:
        return
    for token_id in segmentations(table, text, rng):
        assert state.allowed()[token_id], text
        state.advance(token_id)
    (end,) = table.end_ids
    assert state.allowed()[end]
    state.advance(end)
    assert state.finished


def json_compact(records, dialect):
    """The canonical text with compact separators, written by json.dumps."""
    entries = []
    for desc, kind, values in records:
        fields = [("desc", desc), (kind, [f"<|coord_{v}|>" for v in values])]
        entries.append(dict(fields if dialect.field_order == "desc_first" else fields[::-1]))
    whole = (
        {"objects": entries}
        if dialect.container == "list"
        else {f"object_{n}": entry for n, entry in enumerate(entries, start=1)}
    )
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    if dialect.coordinates == "token":
        text = text.replace('"<|coord_', "<|coord_").replace('|>"', "|>")
    return text


def test_a_description_may_spell_a_coordinate_token_but_not_use_one():
    """Ordinary tokens may write `<|coord_5|>` as text; the token itself is for places."""
    constraint = compile_constraint(
        ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], MIXED
    )
    state = constraint.start()
    for token_id in segmentations(MIXED, '{"objects": [{"desc": "a ', random.Random(0)):
        state.advance(token_id)
    assert not state.allowed()[list(MIXED.coords.token_ids)].any()
    with pytest.raises(ValueError, match="not allowed"):
        state.advance(MIXED.coords.token_ids[5])
    for token_id in segmentations(MIXED, '<|coord_5|>", ', random.Random(0), coords=False):
        state.advance(token_id)


def follow(constraint, table, text, seed=0):
    state = constraint.start()
    for token_id in segmentations(table, text, random.Random(seed)):
        state.advance(token_id)
    return state


def allowed_bins(state, table):
    mask = state.allowed()
    return [k for k, token_id in enumerate(table.coords.token_ids) if mask[token_id]]


@pytest.mark.parametrize("table", [MIXED, SHUFFLED])
def test_boxes_are_ordered_by_what_was_written(table):
    """x1 and y1 leave room, x2 and y2 lie beyond; switched off, every bin is allowed."""
    head = '{"objects": [{"desc": "a", "bbox_2d": ['
    written = (
        "",
        "<|coord_7|>, ",
        "<|coord_7|>, <|coord_998|>, ",
        "<|coord_7|>, <|coord_998|>, <|coord_8|>, ",
    )
    bins = [range(999), range(999), range(8, 1000), range(999, 1000)]
    for ordered in (None, False):
        settings = ConstraintSettings(mode="grammar", ordered=ordered)
        constraint = compile_constraint(settings, DIALECTS["coordjson"], table)
        for text, expected in zip(written, bins, strict=True):
            state = follow(constraint, table, head + text)
            assert allowed_bins(state, table) == list(range(1000) if ordered is False else expected)
            assert not state.allowed()[
                [i for i in range(table.vocab_size) if table.ordinary_bytes(i)]
            ].any()


def test_keys_of_a_map_are_the_next_number():
    """object_1, object_2, ... object_12, and no other, where descriptions come first."""
    dialect = DIALECTS["object-map-bare"]
    constraint = compile_constraint(ConstraintSettings(mode="grammar"), dialect, MIXED)
    records = [("a", "line", [1, 2, 3, 4])] * 12
    text = render_text(records, dialect)
    for number in (1, 2, 9, 10, 12):
        place = text.index(f'"object_{number}"') + len('"object_')
        state = follow(constraint, MIXED, text[:place])
        digits = [d for d in range(10) if state.allowed()[ord(str(d))]]
        assert digits == [int(str(number)[0])]


def test_dialects_of_numbers_are_refused():
    """Their digits are ordinary text; the message names the dialect and the way out."""
    for name in ("coordjson-bins", "coordjson-pixels"):
        for mode in ("grammar", "coords"):
            with pytest.raises(ConfigError, match="coordinate tokens"):
                compile_constraint(ConstraintSettings(mode=mode), DIALECTS[name], MIXED)


def test_no_constraint_compiles_to_none():
    """Mode none costs nothing."""
    assert compile_constraint(ConstraintSettings(), DIALECTS["coordjson"], MIXED) is None


def test_a_vocabulary_that_cannot_spell_the_answer_is_refused():
    """A byte that no token spells, or a missing end token, is named before anything is decoded."""
    import dataclasses

    texts = list(MIXED.texts)
    texts[ord("{")] = b"{{"
    broken = dataclasses.replace(MIXED, texts=tuple(texts))
    with pytest.raises(CheckpointError, match=r"'\{'.*coordeval vocab expand"):
        compile_constraint(ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], broken)
    compile_constraint(ConstraintSettings(mode="coords"), DIALECTS["coordjson"], broken)
    endless = dataclasses.replace(MIXED, end_ids=frozenset())
    with pytest.raises(CheckpointError, match="end token"):
        compile_constraint(ConstraintSettings(mode="coords"), DIALECTS["coordjson"], endless)


def test_a_state_says_what_was_wrong_and_stays_usable():
    """A refused token raises ValueError and changes nothing; nothing follows the end."""
    constraint = compile_constraint(
        ConstraintSettings(mode="grammar"), DIALECTS["coordjson"], MIXED
    )
    (end,) = MIXED.end_ids
    state = constraint.start()
    for wrong in (
        end,
        ord("x"),
        MIXED.coords.token_ids[0],
        MIXED.vocab_size - 1,
        MIXED.vocab_size + 5,
        -1,
    ):
        with pytest.raises(ValueError, match=str(wrong)):
            state.advance(wrong)
    for token_id in b'{"objects": []}':
        state.advance(token_id)
    twin = state.copy()
    state.advance(end)
    assert state.finished
    assert not twin.finished
    assert np.flatnonzero(state.allowed()).tolist() == [end]
    with pytest.raises(ValueError, match="behind the end"):
        state.advance(end)


def test_a_long_class_list_in_a_large_vocabulary():
    """1,203 names, 20,000 tokens: each name is let through, a name outside is not."""
    rng = random.Random(0)
    names = tuple(
        dict.fromkeys(
            "_".join(rng.choice("abcdefgh") * rng.randint(1, 4) for _ in range(5))
            for _ in range(1300)
        )
    )[:1203]
    pieces = {name[i : i + rng.randint(1, 9)] for name in names for i in range(12)}
    table = table_of(pieces)
    settings = ConstraintSettings(mode="grammar", class_names=names)
    constraint = compile_constraint(settings, DIALECTS["coordjson"], table)
    for name in names[::40]:
        follow(constraint, table, '{"objects": [{"desc": "' + name + '", "', seed=len(name))
    with pytest.raises(ValueError, match="not allowed"):
        follow(constraint, table, '{"objects": [{"desc": "zebra", "')
