"""The loop guard on injected loops: it fires at the right token, never one earlier."""

from __future__ import annotations

import random
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordeval.data.canonical import render_record, render_text
from coordeval.decoding import guard as guard_module
from coordeval.decoding.guard import LoopGuard, replay_guard
from coordeval.decoding.settings import GuardSettings
from coordeval.decoding.verdict import Verdict
from coordeval.errors import ConfigError
from coordeval.parsers import DIALECTS

LIST = DIALECTS["coordjson"]
DEFAULT = GuardSettings()
OPENING = '{"objects": ['
# Coordinate tokens, words with their space, signs one by one: like a byte-level tokenizer.
PIECE = re.compile(r"<\|[^|<>\s]+\|>|\s(?=<\|)| ?[A-Za-z0-9_]{1,8}| ?[^A-Za-z0-9_\s]|\s")


def pieces_of(text):
    return [piece.encode() for piece in PIECE.findall(text)]


def watch(pieces, settings=DEFAULT, dialect=LIST):
    """The verdict over pieces, each with a stable number for an id."""
    guard = LoopGuard(settings, dialect)
    for piece in pieces:
        told = guard.push(zlib.crc32(piece), piece)
        assert told is guard.verdict
        if told is not None:
            return told
    return None


def boxes(count, seed=0, names=("cat", "dog", "person")):
    """Distinct records (desc, kind, values) that are no near copies of one another."""
    rng = random.Random(seed)
    out = {}
    while len(out) < count:
        x, y = rng.randrange(0, 900, 10), rng.randrange(0, 900, 10)
        out[(x, y)] = (rng.choice(names), "bbox_2d", (x, y, x + 20, y + 50))
    return list(out.values())


def written(records, dialect=LIST):
    return [render_record(*record, dialect) for record in records]


def fires_with(texts, settings=DEFAULT, dialect=LIST, after=", more"):
    """Verdict over a list of record texts, checked to fire at the last one's last token.

    Everything but the last record, and the last one without its brace, must leave it silent.
    """
    text = OPENING + ", ".join(texts)
    pieces = pieces_of(text)
    assert watch(pieces[:-1], settings, dialect) is None
    verdict = watch([*pieces, *pieces_of(after)], settings, dialect)
    assert verdict is not None
    assert verdict.at == len(pieces)
    return verdict


def start_token(texts, index):
    """The token that holds the opening brace of the record `index`, looked up piece by piece."""
    target = len(OPENING) + sum(len(one) + 2 for one in texts[:index])
    place = 0
    for token, piece in enumerate(PIECE.findall(OPENING + ", ".join(texts))):
        place += len(piece)
        if place > target:
            return token
    raise AssertionError


class TestExact:
    def test_the_fourth_writing_of_a_record_fires(self):
        """Back to back: onset at the second copy, period 1, four copies."""
        texts = written([*boxes(3), *[boxes(4)[3]] * 4])
        verdict = fires_with(texts)
        assert (verdict.kind, verdict.period, verdict.copies) == ("exact", 1, 4)
        assert verdict.onset == start_token(texts, 4)
        assert verdict.repeated == texts[-1]

    def test_writings_far_apart_count(self):
        """The whole history is seen: four writings with hundreds of records between them."""
        one, *others = boxes(901)
        texts = written([one, *others[:300], one, *others[300:600], one, *others[600:], one])
        verdict = fires_with(texts)
        assert (verdict.kind, verdict.period, verdict.copies) == ("exact", 301, 4)
        assert verdict.onset == start_token(texts, 301)

    @pytest.mark.parametrize("count", [2, 3, 7])
    def test_the_threshold_is_the_one_asked_for(self, count):
        """So many writings, not one fewer."""
        settings = GuardSettings(exact_repeats=count, near_repeats=50, block_repeats=50)
        verdict = fires_with(written([boxes(1)[0]] * count), settings)
        assert (verdict.kind, verdict.copies) == ("exact", count)

    def test_names_are_compared_normalised_and_values_as_numbers(self):
        """Case, width and spaces of a name, and spacing of the record, make no new record."""
        a = '{"desc": "Traffic Light", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>]}'
        b = '{ "bbox_2d" :[<|coord_1|>,<|coord_2|>,<|coord_3|>,<|coord_4|>], "desc": " traffic  light"}'
        verdict = fires_with([a, b, a.replace("Traffic", "Ｔraffic"), b.upper().lower()])
        assert verdict.kind == "exact"

    def test_other_names_kinds_or_values_are_other_records(self):
        """What differs in one of the three does not count together."""
        same = (1, 1, 50, 50, 9, 70)
        texts = written(
            [(n, k, (*same[:-1], v)) for n in "ab" for k in ("poly", "line") for v in (70, 71, 72)]
            * 3
        )
        settings = GuardSettings(block_repeats=50)
        assert watch(pieces_of(OPENING + ", ".join(texts)), settings) is None

    @pytest.mark.parametrize(
        "broken",
        [
            '{"desc": "cat", "bbox_2d": [第九, <|coord_1|>, <|coord_2|>, <|coord_3|>]}',
            '{"desc": "cat, "bbox_2d": [<|coord_1|>]}',
            '{"desc": "cat"}',
            '{"desc": "cat", "bbox_3d": [<|coord_1|>, <|coord_2|>]}',
            '{"desc": "cat", "bbox_2d": []}',
            '{"desc": "", "bbox_2d": [[<|coord_1|>]]}',
        ],
    )
    def test_broken_records_repeat_too(self, broken):
        """What can't be read is compared as text."""
        texts = [*written(boxes(2)), *[broken] * 4]
        verdict = watch(pieces_of(OPENING + ", ".join(texts) + ', {"desc": "x"'))
        assert verdict is not None
        assert (verdict.kind, verdict.copies, verdict.repeated) == ("exact", 4, broken)
        assert verdict.onset == start_token(texts, 3)

    def test_records_of_a_map_repeat_under_any_number(self):
        """The older map: the key counts up, the record stands still."""
        one = ("cat", "bbox_2d", (1, 2, 30, 40))
        text = render_text([one] * 4, DIALECTS["object-map"])
        verdict = watch(pieces_of(text), dialect=DIALECTS["object-map"])
        assert verdict is not None
        assert (verdict.kind, verdict.at) == ("exact", len(pieces_of(text)) - 1)


class TestBlock:
    @pytest.mark.parametrize("period", [2, 3, 10, 257])
    def test_the_third_copy_of_a_block_fires(self, period):
        """Any period: at the last record of the third copy; onset at the second copy."""
        before, block = boxes(period + 3)[:3], boxes(period + 3)[3:]
        texts = written([*before, *block * 3])
        verdict = fires_with(texts)
        assert (verdict.kind, verdict.period, verdict.copies) == ("block", period, 3)
        assert verdict.onset == start_token(texts, 3 + period)
        assert verdict.repeated == ", ".join(written(block))[:200]

    def test_a_block_may_hold_a_record_twice(self):
        """The block a a b three times: every earlier place of a record is looked at."""
        a, b = boxes(2)
        settings = GuardSettings(exact_repeats=50, near_repeats=50)
        texts = written([a, a, b] * 3)
        assert fires_with(texts, settings).period == 3

    def test_copies_that_are_not_back_to_back_do_not_count(self):
        """A record between the copies breaks the block."""
        a, b, c, d = boxes(4)
        texts = written([a, b, c, a, b, d, a, b, c])
        assert watch(pieces_of(OPENING + ", ".join(texts))) is None

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(2, 5))
    def test_blocks_fire_where_the_definition_first_holds(self, symbols, copies):
        """Against all periods and places written down plainly."""
        settings = GuardSettings(
            exact_repeats=1000, near_repeats=1000, block_repeats=copies, cycle_tokens=10_000
        )
        texts = written([boxes(4)[symbol] for symbol in symbols])
        expected = next(
            (
                count
                for count in range(1, len(symbols) + 1)
                for period in range(2, count // copies + 1)
                if all(
                    symbols[count - 1 - k] == symbols[count - 1 - k - period]
                    for k in range((copies - 1) * period)
                )
            ),
            None,
        )
        verdict = watch(pieces_of(OPENING + ", ".join(texts)), settings)
        assert (verdict is None) == (expected is None)
        if verdict is not None:
            assert verdict.at == len(pieces_of(OPENING + ", ".join(texts[:expected])))
            assert verdict.copies == copies
            assert verdict.onset == start_token(texts, expected - (copies - 1) * verdict.period)


def near_boxes(steps, name="cat", size=500):
    """Boxes that each overlap the one before with IoU 500 / 510 or so."""
    return [(name, "bbox_2d", (100 + 5 * k, 100, 100 + 5 * k + size, 600)) for k in range(steps)]


class TestNear:
    def test_four_near_repeats_in_a_row_fire(self):
        """Five records in all; onset at the first that repeats."""
        texts = written([*boxes(2), *near_boxes(5)])
        verdict = fires_with(texts)
        assert (verdict.kind, verdict.period, verdict.copies) == ("near", 1, 5)
        assert verdict.onset == start_token(texts, 3)
        assert verdict.repeated == texts[-1]

    def test_exact_copies_are_near_repeats(self):
        """Two of the four may be exact."""
        a, b, c = near_boxes(3)
        assert fires_with(written([a, a, b, b, c])).kind == "near"

    def test_the_overlap_is_measured_against_the_threshold(self):
        """IoU 0.95 exactly counts, a hair below does not."""
        records = [("cat", "bbox_2d", (0, 0, 100 if k % 2 else 95, 100)) for k in range(8)]
        settings = GuardSettings(exact_repeats=50, block_repeats=50)
        texts = written(records)
        assert fires_with(texts[:5], settings).kind == "near"
        stricter = GuardSettings(exact_repeats=50, block_repeats=50, near_iou=0.951)
        assert watch(pieces_of(OPENING + ", ".join(texts)), stricter) is None

    def test_another_name_kind_or_place_breaks_the_row(self):
        """Three repeats, a stranger, three repeats: silence."""
        for stranger in [
            ("dog", *near_boxes(4)[3][1:]),
            ("cat", "bbox_2d", (0, 0, 50, 50)),
            ("cat", "poly", (115, 100, 615, 100, 615, 600, 115, 600)),
            ("cat", "bbox_2d", (615, 600, 115, 100)),
        ]:
            texts = written([*near_boxes(4), stranger, *near_boxes(8)[4:]])
            assert watch(pieces_of(OPENING + ", ".join(texts))) is None

    def test_polygons_repeat_by_their_hulls(self):
        """An outline that jitters by a bin in each writing."""
        texts = written(
            [("cat", "poly", (10, 10, 500, 10 + k, 500, 500, 10, 500 - k)) for k in range(5)]
        )
        assert fires_with(texts).kind == "near"

    def test_shapes_without_an_area_are_near_nothing(self):
        """Flat boxes and flat polygons, each a little different: silence, and no division by 0."""
        flat = [("cat", "bbox_2d", (100, 100, 100, 600 + k)) for k in range(8)]
        thin = [("cat", "poly", (0, 0, 500, 500, 900 + k, 900 + k)) for k in range(8)]
        assert watch(pieces_of(OPENING + ", ".join(written([*flat, *thin])))) is None

    def test_polygons_of_one_hull_and_different_areas_are_no_repeats(self):
        """Parts of a background that all span the image."""
        texts = written([("wall", "poly", (0, 0, 999, 0, 0, 999, 50 * k, 60)) for k in range(9)])
        squares = written([("wall", "poly", (0, 0, 999, 0, 999, 999, k, 999)) for k in (0, 999)])
        assert watch(pieces_of(OPENING + ", ".join([*texts, *squares]))) is None

    def test_pixel_dialects_are_measured_as_written(self):
        """Integers far beyond the bins."""
        dialect = DIALECTS["coordjson-pixels"]
        records = [("cat", "bbox_2d", (1000 + k, 1000, 3000 + k, 4000)) for k in range(5)]
        assert fires_with(written(records, dialect), dialect=dialect).kind == "near"

    def test_crowded_rows_of_equal_classes_are_honest(self):
        """Forty equal boxes side by side, also overlapping by half: silence."""
        for step in (10, 20):
            row = [("book", "bbox_2d", (20 + step * k, 300, 40 + step * k, 420)) for k in range(40)]
            assert watch(pieces_of(render_text(row, LIST))) is None


def cycle_pieces(period, seed=0):
    rng = random.Random(seed)
    return [b" w%d" % rng.randrange(10**9) for _ in range(period)]


class TestCycle:
    @pytest.mark.parametrize("period", [1, 2, 3, 4, 5, 17, 300])
    def test_eight_copies_and_32_tokens_fire(self, period):
        """At the last token of both, never one earlier; onset at the second copy."""
        before = pieces_of(OPENING + '{"desc": "')
        one = cycle_pieces(period)
        length = max(8 * period, 32)
        pieces = [*before, *(one * 33)[:length]]
        assert watch(pieces[:-1]) is None
        verdict = watch([*pieces, *one])
        assert verdict == Verdict(
            kind="cycle",
            onset=len(before) + period,
            at=len(pieces),
            period=period,
            copies=length // period,
            repeated=b"".join(pieces[-period:]).decode()[:200],
        )

    @pytest.mark.parametrize(
        "text",
        [
            "第九" * 40,
            "]" * 40,
            "[[" * 40,
            "}" * 40,
            "\n" * 40,
            '"' * 40,
            "\\" * 40,
            "no no yes " * 12,
            "<|im_end|>" * 40,
            '{"objects": [' * 40,
            '{"desc": [' * 40,
            '{"desc": "cat", "poly": [' + "第九" * 40,
            '{"desc": "cat", "poly": [' + "0" * 400,
            '{"desc": "cat", "poly": [' + "<|coord_5|>" * 40,
            '{"desc": "cat", "bbox_2d": [<|coord_1|>, 第九, ' + "[<|coord_2|>, 第九], " * 12,
            '{"desc": "cat", "attributes": {' + '"a": 1, ' * 12,
        ],
    )
    @pytest.mark.parametrize("before", ["", OPENING + written(boxes(1))[0] + ", "])
    def test_endless_rubbish_is_ended(self, text, before):
        """CJK blocks, brackets, white space, keys, digits, special tokens, before or after records."""
        verdict = watch(pieces_of(before + text))
        assert verdict is not None
        assert verdict.kind == "cycle"

    def test_a_complete_record_starts_the_count_anew(self):
        """Seven copies, a record, seven copies: silence."""
        one = " again and again and again and on " * 7
        texts = written(boxes(2))
        assert watch(pieces_of(one + texts[0] + one + texts[1] + one)) is None

    def test_a_broken_record_given_up_starts_the_count_anew(self):
        """The tokens before the next record's brace are not counted any more."""
        broken = '{"desc": "cat, "bbox_2d": [' + "a b c d " * 7
        assert watch(pieces_of(OPENING + (broken + "], ") + broken)) is None

    def test_long_honest_polygons_are_no_cycle(self):
        """Five hundred points, straight edges, right angles, a point written twice."""
        rng = random.Random(0)
        stairs = [v for k in range(240) for v in (4 * (k // 2), 4 * ((k + 1) // 2))]
        straight = [v for k in range(0, 999, 2) for v in (k, 500)]
        circle = [rng.randrange(1000) for _ in range(1000)]
        for values in (stairs, straight, circle, [v for v in circle[:60] for _ in (0, 1)]):
            text = render_text([("cat", "poly", values)], LIST)
            assert watch(pieces_of(text)) is None

    def test_a_tiny_polygon_may_stand_in_one_bin(self):
        """Twenty points in the same place are honest, forty are not."""
        text = render_text([("cat", "poly", (7, 9) * 20 + (8, 9, 8, 10))], LIST)
        assert watch(pieces_of(text)) is None
        verdict = watch(pieces_of(render_text([("cat", "poly", (7, 9) * 40)], LIST)))
        assert verdict is not None
        assert (verdict.kind, verdict.period) == ("cycle", 6)

    def test_outlines_traced_over_and_over_are_ended(self):
        """Three points or more that come round eight times."""
        text = render_text([("cat", "poly", (1, 2, 30, 40, 5, 60) * 9)], LIST)
        verdict = watch(pieces_of(text))
        assert verdict is not None
        assert (verdict.kind, verdict.period, verdict.copies) == ("cycle", 18, 8)

    def test_no_look_at_cycles_longer_than_the_limit(self, monkeypatch):
        """The longest period is bounded, so that memory is."""
        monkeypatch.setattr(guard_module, "LONGEST_CYCLE", 20)
        assert watch(cycle_pieces(21) * 12) is None
        assert watch(cycle_pieces(20) * 8) is not None


class TestWhatever:
    def test_honest_text_is_left_alone(self):
        """Four hundred different objects in four dialects."""
        for name in ("coordjson", "coordjson-quoted", "coordjson-pixels", "object-map"):
            dialect = DIALECTS[name]
            assert watch(pieces_of(render_text(boxes(400), dialect)), dialect=dialect) is None
        assert watch([]) is None
        assert watch(pieces_of('{"objects": []}')) is None

    def test_it_fires_once_and_then_keeps_its_verdict(self):
        """Tokens after the verdict change nothing."""
        guard = LoopGuard(DEFAULT, LIST)
        told = [guard.push(7, b" no") for _ in range(200)]
        assert [verdict for verdict in told if verdict is not None] == [guard.verdict]
        assert told.index(guard.verdict) == 31

    def test_two_guards_share_nothing(self):
        """Sequences of a batch: one loops, the other does not."""
        looping, honest = LoopGuard(DEFAULT, LIST), LoopGuard(DEFAULT, LIST)
        for piece in pieces_of(render_text(boxes(60), LIST)):
            looping.push(1, b" no")
            honest.push(zlib.crc32(piece), piece)
        assert looping.verdict is not None
        assert honest.verdict is None

    @given(data=st.data(), name=st.sampled_from(["exact", "block", "near"]))
    def test_the_verdict_does_not_depend_on_how_the_text_is_cut_into_tokens(self, data, name):
        """Loops of records: the same kind, period, copies and text for any pieces."""
        loop = {
            "exact": [boxes(3)[2]] * 5,
            "block": boxes(5)[2:] * 3,
            "near": near_boxes(6),
        }[name]
        raw = render_text([*boxes(2), *loop], LIST).encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=80)))
        pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        verdict = watch(pieces)
        assert verdict is not None
        whole = watch([raw])
        assert verdict.kind == whole.kind == name
        assert (verdict.period, verdict.copies, verdict.repeated) == (
            whole.period,
            whole.copies,
            whole.repeated,
        )
        assert verdict == watch(pieces)

    def test_the_stored_form_names_what_repeats_and_is_bounded(self):
        """The keys that a rollout line carries; a long description is cut at 200 characters."""
        long = (" ".join(f"第{k}" for k in range(500)), "bbox_2d", (1, 2, 30, 40))
        verdict = watch(pieces_of(render_text([long] * 4, LIST)))
        stored = verdict.to_json(tokens_saved=17)
        assert list(stored) == [
            "kind", "onset", "tokens_saved", "at", "period", "copies", "repeated",
        ]  # fmt: skip
        assert stored["tokens_saved"] == 17
        assert len(stored["repeated"]) == 200
        assert 0 < stored["onset"] < stored["at"]

    def test_characters_cut_apart_by_tokens_are_shown_whole_or_replaced(self):
        """A cycle of single bytes of CJK text is quoted without an error."""
        raw = ("第九" * 20).encode()
        verdict = watch([raw[k : k + 1] for k in range(len(raw))])
        assert (verdict.kind, verdict.period) == ("cycle", 6)
        assert isinstance(verdict.repeated, str)

    def test_thresholds_that_cannot_be_told_at_once_are_refused(self):
        """A cycle needs three copies; two words in a row are no loop."""
        with pytest.raises(ConfigError, match="cycle-repeats must be at least 3"):
            GuardSettings(cycle_repeats=2)


class TinyTable:
    """Ids that are positions in a list of pieces; the last one ends an answer."""

    def __init__(self, pieces):
        self.texts = [*dict.fromkeys(pieces), b"<|im_end|>"]
        self.end_ids = frozenset({len(self.texts) - 1})
        self.ids = [self.texts.index(piece) for piece in pieces]

    def text_bytes(self, token_id):
        return self.texts[token_id]


class TestReplay:
    def test_replay_gives_what_the_guard_saw(self):
        """From ids alone, whether the ids end where it fired or go on."""
        table = TinyTable(pieces_of(render_text([boxes(1)[0]] * 9, LIST)))
        for mode in ("mark", "stop"):
            settings = GuardSettings(mode=mode)
            verdict = replay_guard(settings, LIST, table.ids, table)
            live = LoopGuard(settings, LIST)
            for token_id in table.ids:
                live.push(token_id, table.text_bytes(token_id))
            assert verdict == live.verdict
            assert replay_guard(settings, LIST, table.ids[: verdict.at], table) == verdict
            assert replay_guard(settings, LIST, table.ids[: verdict.at - 1], table) is None

    def test_replay_stops_at_the_end_token(self):
        """What a server writes after the end is not part of the answer."""
        table = TinyTable(pieces_of(" no" * 60))
        (end,) = table.end_ids
        settings = GuardSettings(mode="stop")
        assert replay_guard(settings, LIST, [*table.ids[:20], end, *table.ids], table) is None
        assert replay_guard(settings, LIST, [end] * 99, table) is None
        assert replay_guard(settings, LIST, table.ids, table) is not None

    def test_a_guard_that_is_off_saw_nothing(self):
        """Mode off: no verdict."""
        table = TinyTable(pieces_of(" no" * 60))
        assert replay_guard(GuardSettings(mode="off"), LIST, table.ids, table) is None


def test_polygons_of_one_hull_and_area_but_other_shape_are_no_near_repeats():
    """Five triangles, each half of the same square, of which no two lie alike."""
    shapes = [
        (0, 0, 100, 0, 0, 100),
        (100, 0, 100, 100, 0, 100),
        (0, 0, 100, 0, 100, 100),
        (0, 0, 0, 100, 100, 100),
        (0, 0, 100, 0, 50, 100),
        (0, 100, 100, 100, 50, 0),
    ]
    honest = render_text([("kite", "poly", shape) for shape in shapes], LIST)
    assert watch(pieces_of(honest)) is None
    drifting = [(0, k, 100, k, 50, 100 + k) for k in range(6)]
    looping = render_text([("kite", "poly", shape) for shape in drifting], LIST)
    verdict = watch(pieces_of(looping))
    assert verdict is not None
    assert verdict.kind == "near"
