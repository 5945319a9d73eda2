"""Clean targets: matched and missed objects in canonical form, everything else left out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target_setup import (
    END_ID,
    TABLE,
    Piece,
    assert_taught,
    box,
    container,
    context,
    ids_of,
    lead,
    pieces_of,
    record_text,
    rollout,
    sample,
    scenes,
    text_of,
)

from coordeval.coords import coord_token
from coordeval.parsers import parse
from coordeval.training.data.labels import DESCRIPTION, IGNORE_LABEL
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
TRUE_CAT = box("cat", 12, 20, 110, 220)


def clean_pieces(scene, dialect, weights, *, insertion="append", multiplier=1.0):
    """What a clean target must be made of."""
    entries = [(one.true, one) for one in scene.written if one.true is not None]
    entries += [(index, None) for index in scene.missed]
    if insertion == "sorted":
        entries.sort(key=lambda entry: entry[0])
    head = '{"objects": [' if dialect.container == "list" else "{"
    pieces = [Piece(head, "struct", weights.matched_struct)]
    for place, (index, one) in enumerate(entries):
        desc, bins = scene.objects[index]
        struct = weights.matched_struct if one else weights.missed_struct * multiplier
        pieces.append(Piece(lead(dialect, place), "struct", struct, place))
        pieces += pieces_of(
            one.desc if one else desc,
            one.values if one else bins,
            dialect,
            owner=place,
            struct=struct,
            desc_weight=weights.matched_desc if one else weights.missed_desc,
            true_desc=one is None or one.sort == "match",
            labels=bins,
        )
    end = "]}" if dialect.container == "list" else "}"
    return [*pieces, Piece(end, "struct", weights.closing * multiplier, len(entries))]


@settings(max_examples=80)
@given(
    scenes(),
    st.sampled_from(["coordjson", "coordjson-quoted", "object-map"]),
    st.sampled_from(["desc_first", "geometry_first"]),
    st.sampled_from(["append", "sorted"]),
    st.sampled_from(["", "Here they are: "]),
    st.booleans(),
)
def test_every_token_of_a_clean_target_is_taught_as_its_characters_say(
    scene, name, order, insertion, before, cut
):
    """Exactly the matched and the missed objects, conforming, each at the coordinates it shows."""
    if name != "coordjson":
        scene = scene._replace(written=tuple(one for one in scene.written if one.sort != "dropped"))
    own = context(name, order, target="clean", insertion=insertion, tokens=WEIGHTS)
    dialect = own.dialect
    text = before + container(dialect, [record_text(one, dialect) for one in scene.written])
    text = text[: -1 if dialect.container == "map" else -2] if cut and scene.written else text
    ids = own.tokenise(text)
    target = build_target(rollout(text, [*ids, END_ID]), scene.sample(), own)
    drops = sum(one.sort == "dropped" for one in scene.written)
    multiplier = 1.5 if drops else 1.0
    pieces = clean_pieces(scene, dialect, WEIGHTS, insertion=insertion, multiplier=multiplier)
    assert_taught(target, pieces, end_weight=4.0 * multiplier)
    assert target.token_ids == [*own.tokenise("".join(p.text for p in pieces)), END_ID]
    parsed = parse(text_of(target.token_ids), dialect)
    assert parsed.conforming
    assert len(parsed.objects) == len(scene.objects)
    counts = target.counts
    repeats = [one for one in scene.written if one.sort == "repeat"]
    assert counts.duplicates == len(repeats)
    assert counts.false_positives == sum(one.sort == "invented" for one in scene.written)
    assert counts.unlikely + counts.unlikely_merged + counts.no_divergence == len(repeats)


def test_missed_objects_are_added_in_the_order_of_the_truth():
    """`append` keeps the written order and adds; `sorted` gives the order of the truth."""
    truth = [box("a", 0, 0, 50, 50), box("b", 0, 200, 50, 250), box("c", 0, 400, 50, 450)]
    records = [
        '{"desc": "c", "bbox_2d": [<|coord_0|>, <|coord_401|>, <|coord_50|>, <|coord_450|>]}',
        '{"desc": "a", "bbox_2d": [<|coord_0|>, <|coord_0|>, <|coord_50|>, <|coord_51|>]}',
    ]
    text = '{"objects": [' + ", ".join(records) + "]}"

    def order(**config):
        target = build_target(rollout(text), sample(*reversed(truth)), context(**config))
        return [record.desc for record in parse(text_of(target.token_ids)).records]

    assert order(insertion="append") == ["c", "a", "b"]
    assert order(insertion="sorted") == ["a", "b", "c"]
    shuffled = [order(insertion="sorted", order="random", seed=seed) for seed in range(8)]
    assert len({tuple(one) for one in shuffled}) > 1
    assert all(sorted(one) == ["a", "b", "c"] for one in shuffled)


def test_a_wrong_description_is_shown_but_not_taught():
    """A cat called dog stays a dog in the text, without a label; its box is taught."""
    own = context(tokens=TokenWeights(matched_desc=1.0))
    text = '{"objects": [' + CAT.replace("cat", "dog") + "]}"
    target = build_target(rollout(text), sample(TRUE_CAT), own)
    assert text_of(target.token_ids) == text
    assert not (target.kinds_T == DESCRIPTION).any()
    assert len(target.boxes_M4) == 1
    right = build_target(rollout(text), sample(TRUE_CAT._replace(desc="dog")), own)
    assert (right.kinds_T == DESCRIPTION).any()


def test_a_description_in_another_normal_form_is_the_true_one():
    """Data may hold e and an accent where the tokenizer writes one character."""
    own = context(tokens=TokenWeights(matched_desc=1.0))
    text = '{"objects": [' + CAT.replace("cat", "caf\u00e9") + "]}"
    target = build_target(rollout(text), sample(TRUE_CAT._replace(desc="cafe\u0301")), own)
    assert (target.kinds_T == DESCRIPTION).any()
    missed = build_target(
        rollout('{"objects": []}'), sample(TRUE_CAT._replace(desc="cafe\u0301")), own
    )
    assert "caf\u00e9" in text_of(missed.token_ids)
    assert (missed.labels_T == missed.token_ids).all()


def test_unusual_writing_becomes_canonical():
    """Spacing, field order, fences and prose of the rollout leave no trace."""
    odd = '{ "bbox_2d":[<|coord_10|>,<|coord_20|>,<|coord_110|>,<|coord_220|>],"desc":"cat" }'
    text = 'Sure:\n```json\n{"objects" : [\n ' + odd + " ,]}\n```"
    target = build_target(rollout(text), sample(TRUE_CAT), context())
    assert text_of(target.token_ids) == '{"objects": [' + CAT + "]}"
    first = target.token_ids.index(ids_of(coord_token(10))[0])
    assert TABLE.bin_of(int(target.labels_T[first])) == 12


def test_a_shape_of_another_kind_is_written_as_the_true_one():
    """A box that found an outline, and an outline with a point too many, show the truth."""
    true = box("x", 100, 100, 300, 100, 300, 300, 100, 300, kind="poly")
    corners = ", ".join(
        coord_token(value) for value in true.values_px and (100, 100, 300, 100, 300, 300, 100, 300)
    )
    wanted = '{"objects": [{"desc": "x", "poly": [' + corners + "]}]}"
    for written in (
        '{"desc": "x", "bbox_2d": [<|coord_100|>, <|coord_100|>, <|coord_299|>, <|coord_300|>]}',
        '{"desc": "x", "poly": [' + corners + ", <|coord_100|>, <|coord_200|>]}",
    ):
        target = build_target(rollout('{"objects": [' + written + "]}"), sample(true), context())
        assert text_of(target.token_ids) == wanted
        assert target.counts.unmatchable_slots == target.counts.matched == 1
        taught = target.labels_T != IGNORE_LABEL
        assert (
            target.labels_T[taught]
            == [n for n, t in zip(target.token_ids, taught, strict=True) if t]
        ).all()


def test_coordinates_spelled_out_become_coordinate_tokens():
    """What the model spelled with ordinary tokens is written as the tokens it meant."""
    text = '{"objects": [' + CAT + "]}"
    ids = [i for char in text for i in ids_of(char)]
    target = build_target(rollout(text, [*ids, END_ID]), sample(TRUE_CAT), context())
    assert target.token_ids == [*ids_of(text), END_ID]
    assert [TABLE.bin_of(int(target.labels_T[n])) for n in target.boxes_M4[0]] == [12, 20, 110, 220]


@pytest.mark.parametrize("multiplier", [1.0, 3.0])
def test_the_drop_multiplier_is_applied_once_to_what_is_missed(multiplier):
    """Structure of missed objects and closing, by the multiplier itself."""
    own = context(tokens=TokenWeights(drop_multiplier=multiplier))
    text = '{"objects": [' + CAT.replace("2d", "3d") + ", " + CAT.replace("2d", "5d") + "]}"
    target = build_target(rollout(text), sample(TRUE_CAT), own)
    assert target.counts.dropped == 2
    assert set(target.weights_T.tolist()) == {0.0, 1.0, multiplier}
    assert target.weights_T[-1] == multiplier
