"""Unlikelihood: the first token with which a suppressed repeat leaves the clean target."""

from hypothesis import given, settings
from hypothesis import strategies as st
from target_setup import (
    END_ID,
    box,
    bytes_of,
    container,
    context,
    ids_of,
    lead,
    record_text,
    rollout,
    sample,
    scenes,
    text_of,
)

from coordeval.coords import coord_token
from coordeval.parsers import parse
from coordeval.training.stage2.targets import build_target


def record(desc, *bins):
    coords = ", ".join(map(coord_token, bins))
    return f'{{"desc": "{desc}", "bbox_2d": [{coords}]}}'


def answer(*records):
    return '{"objects": [' + ", ".join(records) + "]}"


A = record("cat", 10, 20, 110, 220)
B = record("dog", 500, 500, 700, 700)
C = record("cat", 300, 300, 400, 400)
TRUE_A, TRUE_B, TRUE_C = (
    box("cat", 10, 20, 110, 220),
    box("dog", 500, 500, 700, 700),
    box("cat", 300, 300, 400, 400),
)


def places(text, *truth, **config):
    """(target, [(words before the place, label there, unlikely token)])."""
    ids = ids_of(text)
    target = build_target(rollout(text, [*ids, END_ID]), sample(*truth), context(**config))
    out = []
    for position, token in target.unlikely_U2.tolist():
        before = text_of([*target.token_ids[:position], END_ID])
        out.append((before, *bytes_of([target.token_ids[position], token])))
    return target, out


def test_a_burst_at_the_end_pushes_down_going_on():
    """A, B, B, B: behind B the answer closes, and `]},` is what led on."""
    target, found = places(answer(A, B, B, B), TRUE_A, TRUE_B)
    assert found == [(answer(A, B)[:-4], b"]}]}", b"]},")]
    assert (target.counts.duplicates, target.counts.unlikely, target.counts.unlikely_merged) == (
        2,
        1,
        1,
    )
    assert target.labels_T[target.unlikely_U2[0, 0]] == ids_of("]}]}")[0]


def test_a_repeat_before_another_object_is_told_apart_by_its_first_other_word():
    """A, A, B: behind A comes a dog, and the cat is pushed down; A, A, C: the first other bin."""
    _, found = places(answer(A, A, B), TRUE_A, TRUE_B)
    before = '{"objects": [' + A + ', {"desc": "'
    assert found == [(before, bytes_of(ids_of("dog"))[0], bytes_of(ids_of("cat"))[0])]
    _, found = places(answer(A, A, C), TRUE_A, TRUE_C)
    before = '{"objects": [' + A + ', {"desc": "cat", "bbox_2d": ['
    assert found == [(before, b"<|coord_300|>", b"<|coord_10|>")]


def test_an_untaught_position_may_hold_an_unlikely_token():
    """Descriptions of matched objects have no weight by default, and still can be led away from."""
    target, _ = places(answer(A, A, B), TRUE_A, TRUE_B)
    assert target.labels_T[target.unlikely_U2[0, 0]] == -100


def test_the_boundary_is_behind_the_last_kept_object():
    """Invented and dropped records between the object and its repeat change nothing."""
    invented = record("cow", 800, 0, 900, 90)
    broken = record("cow", 800, 0, 900, 90).replace("2d", "3d")
    _, plain = places(answer(A, A), TRUE_A)
    for between in (invented, broken):
        _, found = places(answer(A, between, A), TRUE_A)
        assert found == plain == [(answer(A)[:-4], b"]}]}", b"]},")]
    late, found = places(answer(A, B, A), TRUE_A, TRUE_B)
    assert found == [(answer(A, B)[:-4], b"]}]}", b"]},")]
    assert late.counts.duplicates == 1


def test_a_repeat_before_anything_kept_leaves_at_the_opening():
    """Two copies of an invented object before the first true one: the second is a repeat."""
    cow = record("cow", 800, 0, 900, 90)
    _, found = places(answer(cow, cow, B), TRUE_B)
    before = '{"objects": [{"desc": "'
    assert found == [(before, bytes_of(ids_of("dog"))[0], bytes_of(ids_of("cow"))[0])]
    _, found = places(answer(cow, cow))
    assert found == [('{"objects":', b" []}", b' [{"')]


def test_a_matched_copy_behind_its_repeats_is_where_they_leave():
    """The copy that stays is the best one: the words of the first differ at the first other bin."""
    near = record("cat", 10, 20, 110, 214)
    _, found = places(answer(near, A), TRUE_A)
    before = (
        '{"objects": [{"desc": "cat", "bbox_2d": ['
        + ", ".join(map(coord_token, (10, 20, 110)))
        + ", "
    )
    assert found == [(before, b"<|coord_220|>", b"<|coord_214|>")]


def test_no_divergence_is_counted():
    """In the order of the truth A follows C: the repeat of A behind C says what is to be said."""
    above = box("cow", 300, 0, 400, 9)
    cow = record("cow", 300, 0, 400, 9)
    target, found = places(answer(A, cow, A), above, TRUE_A, insertion="sorted")
    assert text_of(target.token_ids) == answer(cow, A)
    assert found == []
    assert target.counts.duplicates == target.counts.no_divergence == 1
    _, found = places(answer(A, cow, A), above, TRUE_A)
    assert [one[1:] for one in found] == [(b"]}]}", b"]},")]
    # The repeat's last token leads on to an invented object: that is none of its own words.
    target, found = places(answer(A, cow, A, B), above, TRUE_A, insertion="sorted")
    assert found == []
    assert (target.counts.no_divergence, target.counts.false_positives) == (1, 1)


def test_the_bin_that_is_taught_is_never_pushed_down():
    """The next object shows 9 and teaches 10, and the repeat has 10: it is counted, not pushed."""
    true = box("cow", 10, 500, 110, 599)
    shown = record("cow", 9, 500, 110, 599)
    target, found = places(answer(record("cow", 10, 500, 107, 599), shown), true)
    assert text_of(target.token_ids) == answer(shown)
    assert target.counts.duplicates == target.counts.no_divergence == 1
    assert found == []
    other = record("cow", 11, 500, 107, 599)
    target, found = places(answer(other, shown), true)
    assert [one[1:] for one in found] == [(b"<|coord_9|>", b"<|coord_11|>")]


def test_prefix_targets_push_nothing_down():
    """A kept repeat stays in the context; there is no clean target for it to leave."""
    target, found = places(answer(A, A, A), TRUE_A, target="prefix")
    assert found == []
    assert target.unlikely_U2.shape == (0, 2)
    assert target.counts.duplicates == 2
    assert target.counts.unlikely == target.counts.no_divergence == 0


@settings(max_examples=100)
@given(
    scenes(most=4),
    st.sampled_from(["coordjson", "coordjson-quoted", "object-map"]),
    st.sampled_from(["desc_first", "geometry_first"]),
    st.sampled_from(["append", "sorted"]),
)
def test_places_are_those_of_the_target_with_the_repeat_written_on(scene, name, order, insertion):
    """Equal to tokenising the clean text up to the boundary with the repeat behind it."""
    if name != "coordjson":
        scene = scene._replace(written=tuple(one for one in scene.written if one.sort != "dropped"))
    own = context(name, order, insertion=insertion)
    dialect = own.dialect
    text = container(dialect, [record_text(one, dialect) for one in scene.written])
    target = build_target(rollout(text, [*own.tokenise(text), END_ID]), scene.sample(), own)
    clean = text_of(target.token_ids)
    records = sorted(parse(clean, dialect).records, key=lambda one: one.start)
    reference, none = [], 0
    kept = None
    for one in scene.written:
        if one.true is not None:
            kept = one
        if one.sort != "repeat":
            continue
        end = clean.index("[") + 1 if dialect.container == "list" else 1
        place = 0
        if kept is not None:
            place, shown = next(
                (n, r)
                for n, r in enumerate(records)
                if r.values == kept.values and r.desc == kept.desc
            )
            end, place = shown.end, place + 1
        words = own.tokenise(clean[:end] + lead(dialect, place) + record_text(one, dialect))[:-1]
        pairs = enumerate(zip(words, target.token_ids, strict=False))
        left = next(((n, word) for n, (word, other) in pairs if word != other), None)
        if left is None or target.labels_T[left[0]] == left[1]:
            none += 1
        elif left not in reference:
            reference.append(left)
    assert [tuple(pair) for pair in target.unlikely_U2.tolist()] == reference
    assert target.counts.no_divergence == none
    assert target.counts.unlikely == len(reference)
