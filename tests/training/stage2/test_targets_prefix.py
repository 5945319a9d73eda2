"""Prefix targets: the model's own words, what it missed, and a proper end, right to the token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_setup import (
    END_ID,
    TABLE,
    Piece,
    assert_taught,
    box,
    bytes_of,
    container,
    context,
    ids_of,
    lead,
    pieces_of,
    record_text,
    rollout,
    sample,
    scenes,
    split_at_random,
    text_of,
)

from coordeval.coords import coord_token
from coordeval.parsers import parse
from coordeval.training.data.labels import COORDINATE, IGNORE, IGNORE_LABEL, STRUCTURE
from coordeval.training.stage2.config import TokenWeights
from coordeval.training.stage2.targets import build_target

WEIGHTS = TokenWeights(
    matched_struct=0.5,
    matched_desc=0.25,
    missed_struct=2.0,
    missed_desc=3.0,
    closing=4.0,
    drop_multiplier=1.5,
)
CAT = '{"desc": "cat", "bbox_2d": [<|coord_10|>, <|coord_20|>, <|coord_110|>, <|coord_220|>]}'
DOG = '{"desc": "dog", "bbox_2d": [<|coord_500|>, <|coord_500|>, <|coord_700|>, <|coord_700|>]}'
TRUE_CAT = box("cat", 12, 20, 110, 220)
TRUE_DOG = box("dog", 500, 500, 700, 700)


def written_answer(scene, dialect):
    """The text of a scene's rollout, closed."""
    return container(dialect, [record_text(one, dialect) for one in scene.written])


def prefix_pieces(scene, dialect, weights, *, before="", multiplier=1.0):
    """What a prefix target must be made of."""
    head = '{"objects": [' if dialect.container == "list" else "{"
    pieces = [
        Piece(before, None),
        Piece(head, None if before else "struct", weights.matched_struct),
    ]
    place = 0
    for one in scene.written:
        matched = one.sort in ("match", "other_desc")
        text = lead(dialect, place)
        pieces.append(Piece(text, "struct" if matched else None, weights.matched_struct, place))
        if one.text is not None:
            pieces.append(Piece(one.text, None, owner=place))
        else:
            pieces += pieces_of(
                one.desc,
                one.values,
                dialect,
                owner=place,
                struct=weights.matched_struct if matched else None,
                desc_weight=weights.matched_desc,
                true_desc=one.sort == "match",
                labels=scene.objects[one.true][1] if matched else None,
            )
        place += 1
    for index in scene.missed:
        struct = weights.missed_struct * multiplier
        pieces.append(Piece(lead(dialect, place), "struct", struct, place))
        desc, bins = scene.objects[index]
        pieces += pieces_of(
            desc, bins, dialect, owner=place, struct=struct, desc_weight=weights.missed_desc
        )
        place += 1
    end = "]}" if dialect.container == "list" else "}"
    return [*pieces, Piece(end, "struct", weights.closing * multiplier, place)]


@settings(max_examples=80)
@given(
    scenes(),
    st.sampled_from(["coordjson", "coordjson-quoted", "object-map"]),
    st.sampled_from(["desc_first", "geometry_first"]),
    st.sampled_from(["", "Here they are: ", "第", "```json\n"]),
    st.sampled_from(["closed", "prose", "open", "comma", "second"]),
)
def test_every_token_of_an_extended_rollout_is_taught_as_its_characters_say(
    scene, name, order, before, end
):
    """Own, matched, missed and closing tokens, whatever stands before and behind the container."""
    if name != "coordjson":
        # Broken records are spelled in the plain dialect.
        scene = scene._replace(written=tuple(one for one in scene.written if one.sort != "dropped"))
    own = context(name, order, target="prefix", tokens=WEIGHTS)
    answer = written_answer(scene, own.dialect)
    closing = 2 if own.dialect.container == "list" else 1
    text = (
        before
        + {
            "closed": answer,
            "prose": answer + " That is all.",
            "open": answer[:-closing],
            "comma": answer[:-closing] + ", ",
            "second": answer + answer,
        }[end]
    )
    if own.dialect.container == "map" and not scene.written:
        text = before + "{}"
    # Descriptions are written with ordinary tokens, as they were taught.
    ids = own.tokenise(text)
    target = build_target(rollout(text, [*ids, END_ID]), scene.sample(), own)
    drops = sum(one.sort == "dropped" for one in scene.written)
    multiplier = 1.5 if drops else 1.0
    pieces = prefix_pieces(scene, own.dialect, WEIGHTS, before=before, multiplier=multiplier)
    assert_taught(target, pieces, end_weight=4.0 * multiplier)
    counts = target.counts
    assert counts.dropped == drops
    assert counts.missed == len(scene.missed)
    assert counts.matched == sum(one.true is not None for one in scene.written)
    assert counts.truncated == (end in ("open", "comma") and text != before + "{}")
    assert counts.retokenised == counts.invalid == counts.unusual == 0


@given(scenes(), st.data())
def test_the_models_own_tokens_are_kept_however_it_cut_its_words(scene, data):
    """Ids that no tokenizer would write stay, up to the punctuation that closes the last record."""
    own = context(target="prefix")
    text = written_answer(scene, own.dialect)
    ids = split_at_random(data.draw, own.tokenise(text))
    target = build_target(rollout(text, [*ids, END_ID]), scene.sample(), own)
    assert target.counts.retokenised == 0
    pieces = prefix_pieces(scene, own.dialect, TokenWeights())
    assert text_of(target.token_ids) == "".join(piece.text for piece in pieces)
    assert_taught(target, pieces)
    coords = [n for n, token_id in enumerate(ids) if TABLE.bin_of(token_id) is not None]
    last = coords[-1] + 1 if coords else 0
    assert target.token_ids[:last] == ids[:last]
    if not scene.missed:
        assert target.token_ids == [*ids, END_ID]


@given(scenes(), st.data())
def test_a_rollout_cut_anywhere_goes_on_behind_its_last_whole_record(scene, data):
    """Cut between any two tokens, characters of several tokens included."""
    own = context(target="prefix")
    text = written_answer(scene, own.dialect)
    every = own.tokenise(text)
    ids = every[: data.draw(st.integers(0, len(every)))]
    cut = b"".join(bytes_of(ids)).decode("utf-8", "replace")
    target = build_target(rollout(cut, ids, finish="length"), scene.sample(), own)
    assert target.counts.truncated == 1
    assert target.counts.retokenised == 0
    parsed = parse(cut)
    whole = [one for one in parsed.records if one.reason != "truncated_record"]
    if "no_container" in parsed.issues or "empty_output" in parsed.issues:
        assert target.counts.invalid == 1
        kept = scene._replace(written=())
        pieces = prefix_pieces(kept, own.dialect, TokenWeights())
    else:
        kept = scene._replace(written=scene.written[: len(whole)])
        pieces = prefix_pieces(kept, own.dialect, TokenWeights())
    assert_taught(target, pieces)


def test_a_border_token_is_written_as_the_tokenizer_writes_the_extended_text():
    """`]}]}` that closed a rollout becomes `]},` before a missed object, in one token."""
    own = context(target="prefix")
    text = '{"objects": [' + CAT + "]}"
    ids = ids_of(text)
    assert bytes_of(ids)[-1] == b"]}]}"
    target = build_target(rollout(text), sample(TRUE_CAT, TRUE_DOG), own)
    assert target.token_ids == [*ids_of('{"objects": [' + CAT + ", " + DOG + "]}"), END_ID]
    place = len(ids) - 1
    assert bytes_of(target.token_ids[place : place + 1]) == [b"]},"]
    assert target.labels_T[place] == target.token_ids[place]


def test_a_border_between_two_tokens_is_written_anew_all_the_same():
    """`]}` and `]}` apart, then a miss: `]},` again, not `]}` and a comma no model writes."""
    own = context(target="prefix")
    opening = ids_of('{"objects": [' + CAT[:-2])
    ids = [*opening, *ids_of("]}"), *ids_of("]}"), END_ID]
    text = '{"objects": [' + CAT + "]}"
    target = build_target(rollout(text, ids), sample(TRUE_CAT, TRUE_DOG), own)
    assert target.counts.retokenised == 0
    assert target.token_ids == [*ids_of('{"objects": [' + CAT + ", " + DOG + "]}"), END_ID]
    assert build_target(rollout(text, ids), sample(TRUE_CAT), own).token_ids == ids


def test_going_on_to_an_invented_object_is_not_taught():
    """The token that leads from a matched object to a false positive has no label."""
    own = context(target="prefix")
    text = '{"objects": [' + CAT + ", " + DOG + "]}"
    target = build_target(rollout(text), sample(TRUE_CAT), own)
    leads = bytes_of(target.token_ids).index(b"]},")
    assert target.labels_T[leads] == IGNORE_LABEL
    assert target.token_ids == [*ids_of(text), END_ID]
    assert bytes_of(target.token_ids)[-2] == b"]}]}"
    assert target.labels_T[-2] == target.token_ids[-2]
    assert target.counts.false_positives == 1


def test_a_perfect_rollout_is_its_own_target():
    """Nothing is added, nothing cut, and the model's own end is taught."""
    own = context(target="prefix")
    text = '{"objects": [' + CAT + ", " + DOG + "]}"
    target = build_target(rollout(text), sample(TRUE_CAT, TRUE_DOG), own)
    assert target.token_ids == [*ids_of(text), END_ID]
    assert target.labels_T[-1] == END_ID
    slots = target.boxes_M4.ravel().tolist()
    taught = [TABLE.bin_of(int(label)) for label in target.labels_T[slots]]
    assert taught == [12, 20, 110, 220, 500, 500, 700, 700]
    assert TABLE.bin_of(target.token_ids[slots[0]]) == 10
    ids = np.array(target.token_ids)
    elsewhere = np.setdiff1d(np.flatnonzero(target.labels_T != IGNORE_LABEL), slots)
    assert (target.labels_T[elsewhere] == ids[elsewhere]).all()
    # Of the rest only the descriptions are not taught, whose weight is 0.
    assert text_of([*ids[target.labels_T == IGNORE_LABEL], END_ID]) == "catdog"


def test_an_empty_list_is_extended_behind_its_bracket():
    """Without objects there is no separator; the bracket's token is written anew."""
    own = context(target="prefix")
    target = build_target(rollout('{"objects": []}'), sample(TRUE_DOG), own)
    assert target.token_ids == [*ids_of('{"objects": [' + DOG + "]}"), END_ID]
    assert (target.labels_T == target.token_ids).all()


@pytest.mark.parametrize("missed", [(), (TRUE_DOG,)])
@pytest.mark.parametrize(
    ("before", "behind", "closers"),
    [
        ("[", "", "]"),
        ("[", "]]}", "]"),
        ("[[", "", "]]"),
        ("[], [", "", "]"),
        ('["[", ', "", "]"),
    ],
)
def test_lists_that_stand_open_around_records_are_closed(before, behind, closers, missed):
    """The end of a target closes all that was opened, and only then the container."""
    own = context(target="prefix")
    start = '{"objects": [' + before + CAT
    target = build_target(rollout(start + behind), sample(TRUE_CAT, *missed), own)
    assert text_of(target.token_ids) == start + closers + (", " + DOG if missed else "") + "]}"
    assert (target.counts.matched, target.counts.missed) == (1, len(missed))
    ends = len(ids_of(closers + "]}")) if not missed else len(ids_of("]}]}"))
    assert (target.labels_T[-1 - ends :] == target.token_ids[-1 - ends :]).all()


def test_special_and_coordinate_tokens_in_descriptions_are_read_and_never_taught_as_slots():
    """Real special tokens inside a description: ids stay, slots are those of the list alone."""
    own = context(target="prefix", tokens=TokenWeights(matched_desc=1.0))
    desc = "a<|coord_7|>b<|im_start|>c"
    record = CAT.replace("cat", desc)
    text = '{"objects": [' + record + "]}"
    ids = ids_of(text)
    assert TABLE.bin_of(ids[ids.index(ids_of("<|coord_7|>")[0])]) == 7
    target = build_target(rollout(text), sample(box(desc, 12, 20, 110, 220), TRUE_DOG), own)
    inner = target.token_ids.index(ids_of("<|coord_7|>")[0])
    assert target.labels_T[inner] == IGNORE_LABEL
    slots = target.boxes_M4[0].tolist()
    assert [TABLE.bin_of(target.token_ids[n]) for n in slots] == [10, 20, 110, 220]
    assert [TABLE.bin_of(int(target.labels_T[n])) for n in slots] == [12, 20, 110, 220]
    assert target.counts.matched == 1


def test_what_is_written_unusually_is_read_but_its_structure_is_not_taught():
    """Other spacing, another field order, another kind of quoting: coordinates alone are taught."""
    own = context(target="prefix")
    for record in (
        CAT.replace(": ", ":"),
        '{"bbox_2d": [<|coord_10|>, <|coord_20|>, <|coord_110|>, <|coord_220|>], "desc": "cat"}',
        CAT.replace("]}", "],}"),
        CAT.replace("cat", "\\u0063at"),
    ):
        text = '{"objects": [' + record + "]}"
        target = build_target(rollout(text), sample(TRUE_CAT), own)
        assert target.counts.matched == target.counts.unusual == 1
        opening = len(ids_of('{"objects":'))
        taught = [
            n
            for n in range(opening + 1, len(ids_of(text)) - 1)
            if target.labels_T[n] != IGNORE_LABEL
        ]
        assert taught == target.boxes_M4[0].tolist()
        assert (target.kinds_T[taught] == COORDINATE).all()


def test_coordinates_spelled_out_with_ordinary_tokens_are_not_taught():
    """Such an object is found, but has no coordinate token to teach."""
    own = context(target="prefix")
    text = '{"objects": [' + CAT + "]}"
    pieces = [i for char in text for i in ids_of(char)]
    target = build_target(rollout(text, [*pieces, END_ID]), sample(TRUE_CAT), own)
    assert target.counts.matched == target.counts.unmatchable_slots == 1
    assert len(target.boxes_M4) == 0
    closing = len(pieces) - 2
    opening = len('{"objects": [')
    assert (target.labels_T[opening : closing - 1] == IGNORE_LABEL).all()
    assert target.labels_T[-1] == END_ID


def test_a_token_that_holds_part_of_a_wrong_description_is_not_taught():
    """`",` as the opening quote and the description's comma: taught where that comma is true."""
    own = context(target="prefix")
    text = '{"objects": [' + CAT.replace("cat", ",x") + "]}"
    ids = []
    for piece in ('{"objects": [{"desc":', " ", '",', "x", '",', text[text.index(' "bbox') :]):
        ids += ids_of(piece)
    place = ids.index(ids_of('",')[0])
    for desc, kind in ((",x", STRUCTURE), ("y", IGNORE)):
        target = build_target(
            rollout(text, [*ids, END_ID]), sample(TRUE_CAT._replace(desc=desc)), own
        )
        assert target.counts.retokenised == 0
        assert target.token_ids == [*ids, END_ID]
        assert target.kinds_T[place] == kind
        assert target.kinds_T[place - 1] == target.kinds_T[place + 2] == STRUCTURE


def test_outlines_are_taught_point_by_point_from_the_corner_they_begin_at():
    """Equal numbers of points are laid on each other; other numbers teach no coordinate."""
    own = context(target="prefix")
    true = box("x", 100, 100, 300, 100, 300, 300, 100, 300, kind="poly")
    turned = '{"objects": [{"desc": "x", "poly": [%s]}]}'
    corners = (300, 301, 100, 300, 101, 100, 300, 100)
    text = turned % ", ".join(map(coord_token, corners))
    target = build_target(rollout(text), sample(true), own)
    taught = [
        TABLE.bin_of(int(one))
        for one, kind in zip(target.labels_T, target.kinds_T, strict=True)
        if kind == COORDINATE
    ]
    assert taught == [300, 300, 100, 300, 100, 100, 300, 100]
    assert len(target.boxes_M4) == 0
    text = turned % ", ".join(map(coord_token, (*corners, 300, 200)))
    target = build_target(rollout(text), sample(true), own)
    assert target.counts.matched == target.counts.unmatchable_slots == 1
    assert not (target.kinds_T == COORDINATE).any()


def test_missing_numbers_of_a_map_go_on_from_its_largest():
    """An entry added to a map takes the next number."""
    own = context("object-map-bare", target="prefix")
    text = (
        '{"object_4": '
        + CAT
        + ', "object_2": '
        + CAT.replace("cat", "bat").replace("<|coord_1", "<|coord_8")
        + "}"
    )
    target = build_target(rollout(text), sample(TRUE_DOG), own)
    assert text_of(target.token_ids) == text[:-1] + ', "object_5": ' + DOG + "}"


@pytest.mark.parametrize("multiplier", [1.0, 3.0])
def test_the_drop_multiplier_is_applied_once(multiplier):
    """Dropped records weigh missed structure and closing by the multiplier itself, not its square."""
    own = context(target="prefix", tokens=TokenWeights(drop_multiplier=multiplier))
    text = (
        '{"objects": ['
        + CAT.replace("2d", "3d")
        + ", "
        + CAT.replace("cat", "第").replace("2d", "5d")
        + "]}"
    )
    target = build_target(rollout(text), sample(TRUE_DOG), own)
    assert target.counts.dropped == 2
    assert set(target.weights_T.tolist()) == {0.0, 1.0, multiplier}
    assert target.weights_T[-1] == multiplier
    clean = build_target(rollout('{"objects": []}'), sample(TRUE_DOG), own)
    assert set(clean.weights_T.tolist()) == {0.0, 1.0}


INNER = [("red circle", (10, 10, 100, 100)), ("green square", (200, 200, 300, 300))]


def _record(desc, bins):
    return f'{{"desc": "{desc}", "bbox_2d": [{", ".join(map(coord_token, bins))}]}}'


@pytest.mark.parametrize("ending", ["", ", ", ', {"desc": "bl'])
def test_behind_a_container_within_a_container_that_was_cut_off_nothing_can_stand(ending):
    """Closed, the outer record would swallow all that stands in it and behind it."""
    text = '{"objects": [{"objects": [' + ", ".join(_record(*one) for one in INNER) + ending
    missed = ("red circle", (500, 500, 600, 600))
    truth = sample(*(box(desc, *bins) for desc, bins in [*INNER, missed]))
    target = build_target(rollout(text, finish="length"), truth, context(target="prefix"))
    assert text_of(target.token_ids) == (
        '{"objects": [' + ", ".join(_record(*one) for one in [*INNER, missed]) + "]}"
    )
    assert parse(text_of(target.token_ids), context().dialect).conforming
    counts = target.counts
    assert (counts.matched, counts.missed, counts.invalid) == (0, 3, 0)
    assert counts.found == counts.unread + counts.dropped


def test_what_stands_before_a_container_within_a_container_is_kept():
    """Only what cannot be gone on from is left out."""
    first = _record(*INNER[0])
    text = f'{{"objects": [{first}, {{"objects": [{_record(*INNER[1])}, {first}, {first}'
    truth = sample(*(box(desc, *bins) for desc, bins in INNER))
    target = build_target(rollout(text, finish="length"), truth, context(target="prefix"))
    assert text_of(target.token_ids) == f'{{"objects": [{first}, {_record(*INNER[1])}]}}'
    assert (target.counts.matched, target.counts.missed) == (1, 1)


def test_a_map_within_another_object_that_was_cut_off_teaches_the_truth():
    """Nothing closes it: the object around it would stay open."""
    text = '{"objects": {"object_1": {"bbox_2d": [<|coord_182|>, '
    dialect = context("object-map-bare").dialect
    target = build_target(
        rollout(text, finish="length"), sample(), context("object-map-bare", target="prefix")
    )
    assert parse(text_of(target.token_ids), dialect).conforming
    assert target.counts.invalid == 1
