"""The repair table: what each drop reason's repair makes of a record, and what it leaves alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.metrics.attribution.repairs import REPAIRS, repair, repair_table_markdown
from coordeval.metrics.attribution.reread import reread
from coordeval.parsers import parse
from coordeval.parsers.dialects import dialect_named
from coordeval.parsers.reasons import DROP_REASONS

FOUR = "<|coord_10|>, <|coord_20|>, <|coord_30|>, <|coord_40|>"
BOX = ("cat", "bbox_2d", (10, 20, 30, 40))


def mended(body, dialect="coordjson", *, closed=True, **options):
    """The repair of the only record of a text, and its drop reason."""
    text = '{"objects": [' + body + ("]}" if closed else "")
    spoken = dialect_named(dialect, **options)
    (record,) = parse(text, spoken).drops
    return record.reason, repair(record, text[record.start : record.end], spoken)


@pytest.mark.parametrize(
    ("reason", "body", "expected"),
    [
        ("malformed_record", f'{{"desc": "cat" "bbox_2d": [{FOUR}]}}', BOX),
        ("malformed_record", f'{{"desc": "cat, "bbox_2d": [{FOUR}]}}', BOX),
        ("malformed_record", f'{{"desc" "cat", "bbox_2d": [{FOUR}]}}', BOX),
        ("unexpected_keys", f'{{"desc": "cat", "bbox_3d": [{FOUR}]}}', BOX),
        ("unexpected_keys", f'{{"desc": "cat", "bbox_2d": [{FOUR}], "score": 0.9}}', BOX),
        (
            "unexpected_keys",
            f'{{"desc": "cat", "bbox_3d": [<|coord_1|>], "bbox_2d": [{FOUR}]}}',
            BOX,
        ),
        ("unexpected_keys", f'{{"label": "cat", "bbox_2d": [{FOUR}]}}', None),
        ("unexpected_keys", '{"desc": "cat", "bbox_3d": [<|coord_1|>, <|coord_2|>]}', None),
        ("duplicate_keys", f'{{"desc": "cat", "desc": "dog", "bbox_2d": [{FOUR}]}}', BOX),
        (
            "duplicate_keys",
            f'{{"desc": "cat", "bbox_2d": [{FOUR}], "bbox_2d": [<|coord_1|>]}}',
            BOX,
        ),
        ("missing_desc", f'{{"bbox_2d": [{FOUR}]}}', None),
        ("missing_desc", f'{{"desc": 7, "bbox_2d": [{FOUR}]}}', None),
        ("missing_geometry", '{"desc": "cat"}', None),
        (
            "multiple_geometry",
            f'{{"desc": "cat", "bbox_2d": [{FOUR}], "line": [{FOUR}]}}',
            BOX,
        ),
        ("wrong_arity", f'{{"desc": "cat", "bbox_2d": [第九, {FOUR}]}}', BOX),
        ("wrong_arity", f'{{"desc": "cat", "bbox_2d": [[{FOUR}]]}}', BOX),
        ("wrong_arity", f'{{"desc": "cat", "bbox_2d": [{FOUR.replace(", ", " ")}]}}', BOX),
        ("wrong_arity", f'{{"desc": "cat", "bbox_2d": [{FOUR}}}', BOX),
        ("wrong_arity", f'{{"desc": "cat", "bbox_2d": [{FOUR.replace("_20", "_020")}]}}', BOX),
        (
            "wrong_arity",
            f'{{"desc": "cat", "bbox_2d": [{FOUR.replace("<|coord_20|>", "85")}]}}',
            None,
        ),
        ("wrong_arity", f'{{"desc": "cat", "bbox_2d": [{FOUR}, <|coord_50|>]}}', None),
        ("wrong_arity", '{"desc": "cat", "bbox_2d": [10, 20, 30, 40]}', None),
        (
            "coord_out_of_range",
            f'{{"desc": "cat", "bbox_2d": [{FOUR.replace("_40", "_1200")}]}}',
            ("cat", "bbox_2d", (10, 20, 30, 999)),
        ),
        (
            "degenerate_box",
            '{"desc": "cat", "bbox_2d": [<|coord_30|>, <|coord_20|>, <|coord_10|>, <|coord_40|>]}',
            BOX,
        ),
        (
            "degenerate_box",
            '{"desc": "cat", "bbox_2d": [<|coord_30|>, <|coord_20|>, <|coord_30|>, <|coord_40|>]}',
            None,
        ),
    ],
)
def test_each_reason_has_one_repair(reason, body, expected):
    """A record with one fault becomes the object that it would have been, or stays dropped."""
    assert mended(body) == (reason, expected)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (f'{{"desc": "cat", "bbox_2d": [{FOUR}', BOX),
        (f'{{"desc": "cat", "bbox_2d": [{FOUR}]', BOX),
        (f'{{"bbox_2d": [{FOUR}], "desc": "ca', None),
        (f'{{"desc": "cat", "bbox_2d": [{FOUR[:-2]}', None),
        ('{"desc": "cat", "bbox_2d": [<|coord_10|>, <|coord_20|>', None),
    ],
)
def test_a_cut_record_is_completed_only_where_it_can_be_read(cut, expected):
    """Nothing that is not written is added: name and all coordinates must stand before the cut."""
    assert mended(cut, closed=False) == ("truncated_record", expected)


def test_a_cut_number_is_not_trusted():
    """Where coordinates are plain integers the last one may go on, so the record is unrepairable."""
    cut = '{"desc": "cat", "bbox_2d": [10, 20, 30, 4'
    assert mended(cut, "coordjson-bins", closed=False) == ("truncated_record", None)
    whole = '{"desc": "cat", "bbox_2d": [10, 20, 30, 40]'
    assert mended(whole, "coordjson-bins", closed=False) == ("truncated_record", BOX)


def test_an_enforced_order_is_the_only_fault_of_its_record():
    """A record in the other field order is taken as it stands."""
    body = f'{{"bbox_2d": [{FOUR}], "desc": "cat"}}'
    assert mended(body, enforce_field_order=True) == ("key_order", BOX)


def test_the_table_covers_every_drop_reason_in_order():
    """No reason lacks a row, in code and in the docs."""
    assert list(REPAIRS) == list(DROP_REASONS)
    table = repair_table_markdown()
    assert [reason for reason in DROP_REASONS if f"| `{reason}` |" not in table] == []


@given(st.text(alphabet='{}[]",:\\ <|coord_159>bx2desc第', max_size=120))
def test_rereading_never_raises(text):
    """Any text gives a reading, and every coordinate in it is a number."""
    for coordinates in ("token", "quoted_token", "bin_int", "pixel_int"):
        seen = reread(text, coordinates)
        assert all(isinstance(value, int) for found in seen.lists for value in found.values)


@given(st.text(alphabet='{}[]",:\\ 第catbbox_2d', max_size=60))
def test_whatever_a_repair_gives_is_a_valid_object(noise):
    """A repaired record, written out again, is kept by the parser."""
    from coordeval.data.canonical import render_text

    spoken = dialect_named("coordjson")
    text = f'{{"objects": [{{"desc": "cat", {noise} "bbox_2d": [{FOUR}]}}]}}'
    for record in parse(text, spoken).drops:
        found = repair(record, text[record.start : record.end], spoken)
        if found is not None:
            written = render_text([found], spoken)
            assert [obj.values for obj in parse(written, spoken).objects] == [found.values]
