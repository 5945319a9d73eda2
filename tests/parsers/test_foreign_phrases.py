"""Rex-Omni, PaliGemma, Florence-2 and CogVLM: what is kept, what is dropped and why."""

import pytest

from coordeval.parsers import parse
from coordeval.parsers.cogvlm import phrase_before


def read(text, dialect):
    parsed = parse(text, dialect)
    assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
    spans = [(record.start, record.end) for record in parsed.records]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(one[1] <= two[0] for one, two in zip(spans, spans[1:], strict=False))
    return parsed


def rex(phrase, *boxes):
    inside = ",".join("".join(f"<{value}>" for value in box) for box in boxes)
    return (
        f"<|object_ref_start|>{phrase}<|object_ref_end|><|box_start|>{inside or 'None'}<|box_end|>"
    )


CAT = ("cat", (1, 2, 30, 40))
CAT_2 = ("cat", (3, 4, 50, 60))
DOG = ("dog", (5, 6, 70, 80))
R_CAT, R_DOG = rex("cat", CAT[1]), rex("dog", DOG[1])
P_CAT, P_DOG = (
    "<loc0002><loc0001><loc0040><loc0030> cat",
    "<loc0006><loc0005><loc0080><loc0070> dog",
)
F_CAT, F_DOG = "cat<loc_1><loc_2><loc_30><loc_40>", "dog<loc_5><loc_6><loc_70><loc_80>"
C_CAT, C_DOG = "cat [[001,002,030,040]]", "dog [[005,006,070,080]]"

CASES = {
    # dialect, text, issues, drops, kept
    "rex: two phrases": ("rex-omni", f"{R_CAT}, {R_DOG}", set(), [], [CAT, DOG]),
    "rex: two boxes": ("rex-omni", rex("cat", CAT[1], CAT_2[1]), set(), [], [CAT, CAT_2]),
    "rex: spaces between boxes": (
        "rex-omni",
        rex("cat", CAT[1], CAT_2[1]).replace(">,<", ">, <"),
        set(),
        [],
        [CAT, CAT_2],
    ),
    "rex: nothing there": ("rex-omni", f"{rex('owl')}, {R_DOG}", set(), [], [DOG]),
    "rex: end token": ("rex-omni", R_CAT + "<|im_end|>", {"text_after"}, [], [CAT]),
    "rex: prose before": ("rex-omni", "Sure: " + R_CAT, {"text_before"}, [], [CAT]),
    "rex: prose between": ("rex-omni", f"{R_CAT}, and {R_DOG}", {"stray_value"}, [], [CAT, DOG]),
    "rex: no comma": ("rex-omni", R_CAT + R_DOG, {"missing_comma"}, [], [CAT, DOG]),
    "rex: last comma": ("rex-omni", R_CAT + ", ", {"trailing_comma"}, [], [CAT]),
    "rex: prose only": ("rex-omni", "no cats", {"no_container"}, [], []),
    "rex: point": (
        "rex-omni",
        f"{rex('a', (1, 2))}, {R_DOG}",
        set(),
        [("wrong_arity", "too_few")],
        [DOG],
    ),
    "rex: five numbers": (
        "rex-omni",
        f"{rex('a', (1, 2, 3, 4, 5))}, {R_DOG}",
        set(),
        [("wrong_arity", "too_many")],
        [DOG],
    ),
    "rex: foreign token": (
        "rex-omni",
        f"{R_CAT.replace('<2>', '<two>')}, {R_DOG}",
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "rex: bare number": (
        "rex-omni",
        f"{R_CAT.replace('<2>', '2')}, {R_DOG}",
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "rex: leading zero": (
        "rex-omni",
        f"{R_CAT.replace('<2>', '<02>')}, {R_DOG}",
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "rex: out of range": (
        "rex-omni",
        f"{rex('a', (1, 2, 3, 1000))}, {R_DOG}",
        set(),
        [("coord_out_of_range", None)],
        [DOG],
    ),
    "rex: inverted": (
        "rex-omni",
        f"{rex('a', (9, 2, 3, 10))}, {R_DOG}",
        set(),
        [("degenerate_box", "empty_box")],
        [DOG],
    ),
    "rex: phrase without boxes": (
        "rex-omni",
        f"<|object_ref_start|>cat<|object_ref_end|>, {R_DOG}",
        {"stray_value"},
        [("missing_geometry", "absent")],
        [DOG],
    ),
    "rex: boxes without a phrase": (
        "rex-omni",
        f"<|box_start|><1><2><3><4><|box_end|>, {R_DOG}",
        set(),
        [("missing_desc", "absent")],
        [DOG],
    ),
    "rex: phrase never closed": (
        "rex-omni",
        f"{R_CAT.replace('<|object_ref_end|>', '')}, {R_DOG}",
        set(),
        [("malformed_record", "missing_marker")],
        [DOG],
    ),
    "rex: boxes never closed": (
        "rex-omni",
        f"{rex('cat', CAT[1], CAT_2[1]).replace('<|box_end|>', '')}, {R_DOG}",
        set(),
        [("wrong_arity", "separator")],
        [CAT, DOG],
    ),
    "rex: cut in a box": (
        "rex-omni",
        f"{R_CAT}, {R_DOG}".split("<70>")[0],
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "rex: cut in a marker": (
        "rex-omni",
        f"{R_CAT}, <|object_ref_st",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "rex: end token in place of the closing marker": (
        "rex-omni",
        f"{R_CAT}, {R_DOG.replace('<|box_end|>', '<|im_end|>')}",
        {"text_after"},
        [("wrong_arity", "separator")],
        [CAT],
    ),
    "rex: end token behind a phrase": (
        "rex-omni",
        f"{R_CAT}, <|object_ref_start|>dog<|object_ref_end|><|im_end|>",
        {"text_after"},
        [("missing_geometry", "absent")],
        [CAT],
    ),
    "rex: end token in a phrase": (
        "rex-omni",
        f"{R_CAT}, <|object_ref_start|>do<|im_end|>",
        {"text_after"},
        [("malformed_record", "missing_marker")],
        [CAT],
    ),
    "rex: text after the end token": (
        "rex-omni",
        f"{R_CAT}<|im_end|>{R_DOG}",
        {"text_after"},
        [],
        [CAT],
    ),
    "rex: cut in the first marker": (
        "rex-omni",
        "<|object_ref_st",
        {"truncated"},
        [("truncated_record", None)],
        [],
    ),
    "paligemma: two": ("paligemma", f"{P_CAT} ; {P_DOG}", set(), [], [CAT, DOG]),
    "paligemma: last semicolon": ("paligemma", f"{P_CAT} ; ", {"trailing_comma"}, [], [CAT]),
    "paligemma: no semicolon": ("paligemma", P_CAT + P_DOG, {"missing_comma"}, [], [CAT, DOG]),
    "paligemma: prose before": ("paligemma", "boxes: " + P_CAT, {"text_before"}, [], [CAT]),
    "paligemma: end token": ("paligemma", P_CAT + "<eos>", {"text_after"}, [], [CAT]),
    "paligemma: nothing": ("paligemma", "", {"empty_output"}, [], []),
    "paligemma: caption": ("paligemma", "a cat on a mat", {"no_container"}, [], []),
    "paligemma: masks": (
        "paligemma",
        f"{P_CAT.replace(' cat', '<seg001><seg127> cat')} ; {P_DOG}",
        {"stray_value"},
        [],
        [CAT, DOG],
    ),
    "paligemma: 1023": (
        "paligemma",
        "<loc0000><loc0000><loc1023><loc1023> cat",
        set(),
        [],
        [("cat", (0, 0, 1023, 1023))],
    ),
    "paligemma: 1024": (
        "paligemma",
        f"<loc0000><loc0000><loc1024><loc0001> cat ; {P_DOG}",
        set(),
        [("coord_out_of_range", None)],
        [DOG],
    ),
    "paligemma: three": (
        "paligemma",
        f"<loc0000><loc0000><loc0004> cat ; {P_DOG}",
        set(),
        [("wrong_arity", "too_few")],
        [DOG],
    ),
    "paligemma: eight": (
        "paligemma",
        f"{P_CAT.removesuffix(' cat') * 2} cat ; {P_DOG}",
        set(),
        [("wrong_arity", "too_many")],
        [DOG],
    ),
    "paligemma: short token": (
        "paligemma",
        f"<loc2><loc0001><loc0040><loc0030> cat ; {P_DOG}",
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "paligemma: a number of any length": (
        "paligemma",
        f"<loc0000><loc0000><loc{'9' * 30}><loc0001> cat ; {P_DOG}",
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "paligemma: four numbers and an end": (
        "paligemma",
        f"{P_CAT} ; {P_DOG.removesuffix(' dog')}<eos>",
        {"text_after"},
        [("missing_desc", "blank")],
        [CAT],
    ),
    "paligemma: no name": (
        "paligemma",
        f"<loc0002><loc0001><loc0040><loc0030> ; {P_DOG}",
        set(),
        [("missing_desc", "blank")],
        [DOG],
    ),
    "paligemma: no place": (
        "paligemma",
        f"{P_CAT} ; owl ; {P_DOG}",
        set(),
        [("missing_geometry", "absent")],
        [CAT, DOG],
    ),
    "paligemma: cut before the name": (
        "paligemma",
        f"{P_CAT} ; <loc0006><loc0005><loc0080><loc0070>",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "paligemma: cut in a token": (
        "paligemma",
        f"{P_CAT} ; <loc0006><loc00",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "florence2: two": ("florence2", F_CAT + F_DOG, set(), [], [CAT, DOG]),
    "florence2: two boxes": (
        "florence2",
        F_CAT + "<loc_3><loc_4><loc_50><loc_60>" + F_DOG,
        set(),
        [],
        [CAT, CAT_2, DOG],
    ),
    "florence2: decoder's opening": ("florence2", "</s><s>" + F_CAT, set(), [], [CAT]),
    "florence2: end token": ("florence2", F_CAT + "</s>", {"text_after"}, [], [CAT]),
    "florence2: caption": ("florence2", "a cat on a mat", {"no_container"}, [], []),
    "florence2: six": (
        "florence2",
        F_CAT + "<loc_3><loc_4>" + F_DOG,
        set(),
        [("wrong_arity", "too_few")],
        [CAT, DOG],
    ),
    "florence2: foreign": (
        "florence2",
        F_CAT.replace("loc_2>", "loc_x>") + F_DOG,
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "florence2: a number of any length": (
        "florence2",
        F_CAT.replace("<loc_2>", f"<loc_{'9' * 30}>") + F_DOG,
        set(),
        [("coord_out_of_range", None)],
        [DOG],
    ),
    "florence2: what is left of the fourth token": (
        "florence2",
        F_CAT.replace("<loc_40>", "loc _40>") + F_DOG,
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "florence2: two names without enough numbers": (
        "florence2",
        "cat<loc_1><loc_2><loc_3>owl<loc_4><loc_5>" + F_DOG,
        set(),
        [("wrong_arity", "too_few")] * 2,
        [DOG],
    ),
    "florence2: no name": (
        "florence2",
        F_CAT.removeprefix("cat") + F_DOG,
        set(),
        [("missing_desc", "blank")],
        [DOG],
    ),
    "florence2: cut in the last box": (
        "florence2",
        F_CAT + "dog<loc_5><loc_6><loc_7",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "florence2: cut in a name": (
        "florence2",
        F_CAT + "do",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "florence2: cut in the fourth number": (
        "florence2",
        F_CAT + F_DOG[:-2],
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "florence2: full stop": ("florence2", F_CAT + ".", {"text_after"}, [], [CAT]),
    "florence2: text after the end token": (
        "florence2",
        F_CAT + "</s>dog",
        {"text_after"},
        [],
        [CAT],
    ),
    "florence2: too few, and an end": (
        "florence2",
        F_CAT + "dog<loc_5><loc_6></s>",
        {"text_after"},
        [("wrong_arity", "too_few")],
        [CAT],
    ),
    "florence2: a name without a place, and an end": (
        "florence2",
        F_CAT + "dog</s>",
        {"text_after"},
        [("missing_geometry", "absent")],
        [CAT],
    ),
    "florence2: fence": ("florence2", f"```\n{F_CAT}\n```", {"code_fence"}, [], [CAT]),
    "rex: a comma after the last box": (
        "rex-omni",
        R_CAT.replace("<|box_end|>", ",<|box_end|>"),
        {"trailing_comma"},
        [],
        [CAT],
    ),
    "rex: two commas between boxes": (
        "rex-omni",
        rex("cat", CAT[1], CAT_2[1]).replace(">,<", ">, ,<"),
        {"trailing_comma"},
        [],
        [CAT, CAT_2],
    ),
    "rex: cut behind a comma": (
        "rex-omni",
        R_CAT.replace("<|box_end|>", ","),
        {"truncated"},
        [],
        [CAT],
    ),
    "rex: cut before the end of a marker": (
        "rex-omni",
        f"{R_CAT}, <|object_ref_start|>dog<|object_ref_end|><|box_start|",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "rex: fence": ("rex-omni", f"```\n{R_CAT}\n```", {"code_fence"}, [], [CAT]),
    "paligemma: fence": ("paligemma", f"```text\n{P_CAT}\n```", {"code_fence"}, [], [CAT]),
    "paligemma: text after the end token": (
        "paligemma",
        f"{P_CAT}<eos> ; {P_DOG}",
        {"text_after"},
        [],
        [CAT],
    ),
    "paligemma: cut behind the first character of a token": (
        "paligemma",
        f"{P_CAT} ; {P_DOG[:9]}<",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "paligemma: cut behind the first character of a record": (
        "paligemma",
        f"{P_CAT} ; <",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
    "cogvlm: two semicolons": (
        "cogvlm",
        "cat [[001,002,030,040;;003,004,050,060]] runs.",
        {"trailing_comma"},
        [],
        [CAT, CAT_2],
    ),
    "cogvlm: fence": ("cogvlm", f"```\n{C_CAT}\n```", {"code_fence"}, [], [CAT]),
    "cogvlm: two": ("cogvlm", f"{C_CAT} {C_DOG}", set(), [], [CAT, DOG]),
    "cogvlm: two boxes": (
        "cogvlm",
        "cat [[001,002,030,040;003,004,050,060]] runs.",
        set(),
        [],
        [CAT, CAT_2],
    ),
    "cogvlm: end token": ("cogvlm", C_CAT + "</s>", {"text_after"}, [], [CAT]),
    "cogvlm: no boxes": ("cogvlm", "A cat sleeps.", {"no_container"}, [], []),
    "cogvlm: last semicolon": ("cogvlm", C_CAT.replace("]]", ";]]"), {"trailing_comma"}, [], [CAT]),
    "cogvlm: one bracket": (
        "cogvlm",
        f"{C_CAT[:-1]} and {C_DOG}",
        set(),
        [("wrong_arity", "separator")],
        [DOG],
    ),
    "cogvlm: three numbers": (
        "cogvlm",
        f"cat [[001,002,030]] {C_DOG}",
        set(),
        [("wrong_arity", "too_few")],
        [DOG],
    ),
    "cogvlm: foreign": (
        "cogvlm",
        f"cat [[001,left,030,040]] {C_DOG}",
        set(),
        [("wrong_arity", "foreign_token")],
        [DOG],
    ),
    "cogvlm: comma behind the last number": (
        "cogvlm",
        f"{C_CAT.replace(']]', ',]]')} {C_DOG}",
        {"trailing_comma"},
        [],
        [CAT, DOG],
    ),
    "cogvlm: comma without a number": (
        "cogvlm",
        f"{C_CAT.replace('002,', '002,,')} {C_DOG}",
        set(),
        [("wrong_arity", "separator")],
        [DOG],
    ),
    "cogvlm: semicolon first": (
        "cogvlm",
        f"{C_CAT.replace('[[', '[[;')} {C_DOG}",
        {"trailing_comma"},
        [],
        [CAT, DOG],
    ),
    "cogvlm: one bracket before": (
        "cogvlm",
        f"{C_CAT.replace('[[', '[')} and {C_DOG}",
        set(),
        [("wrong_arity", "separator")],
        [DOG],
    ),
    "cogvlm: never closed, and prose behind": (
        "cogvlm",
        f"{C_CAT[:-2]} on a {C_DOG}",
        set(),
        [("wrong_arity", "separator")],
        [("a dog", DOG[1])],
    ),
    "cogvlm: a list of lists": (
        "cogvlm",
        f"cat [[001,002,030,040],[003,004,050,060]] {C_DOG}",
        set(),
        [("wrong_arity", "separator"), ("missing_desc", "blank")],
        [DOG],
    ),
    "cogvlm: colon before": ("cogvlm", C_CAT.replace(" ", ": "), set(), [], [CAT]),
    "cogvlm: on the next line": ("cogvlm", C_CAT.replace(" ", "\n"), set(), [], [CAT]),
    "cogvlm: no phrase": (
        "cogvlm",
        f"[[001,002,030,040]] {C_DOG}",
        set(),
        [("missing_desc", "blank")],
        [DOG],
    ),
    "cogvlm: cut": (
        "cogvlm",
        f"{C_CAT} {C_DOG[:-6]}",
        {"truncated"},
        [("truncated_record", None)],
        [CAT],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_and_what_is_dropped(name):
    """Each family's records get the contract's reasons, and no broken one costs another."""
    dialect, text, issues, drops, objects = CASES[name]
    parsed = read(text, dialect)
    assert set(parsed.issues) == issues
    assert [(record.reason, record.detail) for record in parsed.drops] == drops
    assert [(record.desc, record.values) for record in parsed.objects] == objects
    assert parsed.conforming == (not issues and not drops)


FENCED = {
    "paligemma": f"{P_CAT} ; {P_DOG}",
    "florence2": F_CAT + F_DOG,
    "rex-omni": f"{R_CAT}, {R_DOG}",
}


@pytest.mark.parametrize("dialect", FENCED)
def test_prose_around_a_fence_is_no_part_of_a_name(dialect):
    """The answer is what stands in the fence; prose before and behind it is noted."""
    whole = FENCED[dialect]
    for text, issues in (
        (f"Sure:\n```\n{whole}\n```", {"text_before", "code_fence"}),
        (f"```text\n{whole}\n```\nHope it helps.", {"text_after", "code_fence"}),
        (f"`Sure`:\n```\n{whole}\n```\nDone.", {"text_before", "text_after", "code_fence"}),
    ):
        parsed = read(text, dialect)
        assert set(parsed.issues) == issues, text
        assert [(item.desc, item.values) for item in parsed.records] == [CAT, DOG]


@pytest.mark.parametrize("dialect", ["paligemma", "florence2"])
def test_a_second_fence_is_counted_and_not_read(dialect):
    """As a second list of JSON is."""
    whole = FENCED[dialect]
    parsed = read(f"```\n{whole}\n```\n```\n{whole}\n```", dialect)
    assert set(parsed.issues) == {"code_fence", "text_after", "second_container"}
    assert parsed.objects_found == 2


def test_quadrilaterals_of_rex_omni_are_polygons():
    """Eight numbers between commas are four points."""
    (record,) = read(rex("Hello", (1, 2, 9, 2, 9, 8, 1, 8)), "rex-omni").objects
    assert (record.kind, record.values) == ("poly", (1, 2, 9, 2, 9, 8, 1, 8))


def test_polygons_of_florence_stand_in_tags():
    """All location tokens between the tags are one polygon, however many."""
    text = "cat<poly><loc_1><loc_2><loc_9><loc_2><loc_9><loc_8></poly>" + F_DOG
    cat, dog = read(text, "florence2").objects
    assert (cat.desc, cat.kind, cat.values) == ("cat", "poly", (1, 2, 9, 2, 9, 8))
    assert (dog.desc, dog.kind) == ("dog", "bbox_2d")


def test_further_polygons_of_florence_have_the_same_name():
    """`<sep>`, or the tags themselves, part the polygons of one name; the next name ends them."""
    one, two = (
        "<loc_1><loc_2><loc_9><loc_2><loc_9><loc_8>",
        "<loc_3><loc_3><loc_5><loc_3><loc_5><loc_5>",
    )
    for between in ("<sep>", "</poly><poly>"):
        text = f"cat<poly>{one}{between}{two}</poly>dog<poly>{one}</poly>{F_CAT}"
        found = read(text, "florence2").objects
        assert [(record.desc, record.kind) for record in found] == [
            ("cat", "poly"),
            ("cat", "poly"),
            ("dog", "poly"),
            ("cat", "bbox_2d"),
        ]
        assert text[found[1].start : found[1].end] == two
        assert text[found[2].start : found[2].end] == f"dog<poly>{one}"


@pytest.mark.parametrize(
    "name", ["बिल्ली", "猫", "😀", "кошка", "แมว", "C++", "l'été", "T-shirt", "🏴"]
)
def test_names_of_cogvlm_are_of_any_script(name):
    """Accents, vowel signs and emoji belong to the word that they are written in."""
    (record,) = read(f"{name} [[001,002,030,040]].", "cogvlm").objects
    assert record.desc == name


def test_one_edit_of_a_cogvlm_record_never_costs_its_neighbours():
    """Every deletion and insertion among the brackets and numbers of the middle one of three."""
    text = f"{C_CAT} dog [[005,006,070,080]] an owl [[009,010,110,120]]"
    start, end = text.index("dog") + 4, text.index(" an owl")
    for place in range(start, end):
        for piece in ("", *"{}[]\",:;x1\\'< "):
            edited = text[:place] + piece + text[place + (not piece) :]
            kept = [(item.desc, item.values) for item in read(edited, "cogvlm").objects]
            assert kept[:1] == [CAT], edited
            assert kept[-1:] == [("an owl", (9, 10, 110, 120))], edited
            assert read(edited, "cogvlm").objects_found >= 3, edited


@pytest.mark.parametrize("dialect", ["rex-omni", "paligemma", "florence2"])
def test_every_cut_costs_the_record_under_way_alone(dialect):
    """What was written whole is kept, and what was not is one truncated record at the most."""
    text = {
        "rex-omni": f"{R_CAT}, {R_DOG}",
        "paligemma": f"{P_CAT} ; {P_DOG}",
        "florence2": F_CAT + F_DOG,
    }[dialect]
    for length in range(1, len(text)):
        parsed = read(text[:length], dialect)
        kept = [record.values for record in parsed.objects]
        assert kept == [CAT[1], DOG[1]][: len(kept)]
        assert [record.reason for record in parsed.drops] in ([], ["truncated_record"])
        assert parsed.objects_found <= 2


def test_spans_begin_with_the_phrase_and_end_with_the_box():
    """The first box of a phrase spans from the phrase on, the next ones their own numbers."""
    text = f"{rex('cat', CAT[1], CAT_2[1])}, {R_DOG}"
    first, second, third = read(text, "rex-omni").objects
    assert text[first.start : first.end] == R_CAT.removesuffix("<|box_end|>")
    assert text[second.start : second.end] == "<3><4><50><60>"
    assert text[third.start : third.end] == R_DOG.removesuffix("<|box_end|>")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("A train ", "A train"),
        (" is coming down the tracks ", "the tracks"),
        (" and a white nose ", "a white nose"),
        (" with green eyes ", "green eyes"),
        ("It rains. Two dogs ", "Two dogs"),
        (", ", ""),
        (" standing next to ", "standing next to"),
        ("Is this a dog? Yes, the dog", "the dog"),
    ],
)
def test_phrases_before_boxes(text, phrase):
    """From the last determiner or the sentence's beginning on, in the words that were written."""
    found = phrase_before(text, 0, len(text))
    assert found.text == phrase
    assert text[found.start :].startswith(phrase)


@pytest.mark.parametrize("token", ["<|coord_3|>", "<two>", "<|", "第九", "<２>"])
def test_a_foreign_token_of_rex_omni_is_shown_whole(token):
    """The evidence is what was written in the slot, special tokens with their bars."""
    (drop,) = read(R_CAT.replace("<30>", token), "rex-omni").drops
    shown = (drop.reason, drop.detail, drop.slot)
    assert shown == ("wrong_arity", "foreign_token", 2)
    assert token.startswith(drop.evidence)
    assert drop.evidence == token or token == "<|"


@pytest.mark.parametrize("piece", ["第九", "x", "<foo>", "left of", "<loc", ">", "'", "{"])
@pytest.mark.parametrize("slot", [1, 2, 3])
def test_text_among_location_tokens_is_foreign_and_no_name(piece, slot):
    """In the place of a coordinate, or between two, it costs one record and makes none up."""
    for dialect, dog, text in (
        ("florence2", F_DOG, F_CAT + F_DOG + F_CAT),
        ("paligemma", P_DOG, f"{P_CAT} ; {P_DOG} ; {P_CAT}"),
    ):
        start = [k for k in range(len(dog)) if dog.startswith("<loc", k)][slot]
        between = dog[:start] + piece + dog[start:]
        replaced = dog[:start] + piece + dog[dog.index(">", start) + 1 :]
        is_name = slot == 3 and ">" not in piece  # nothing tells it from the beginning of one
        for broken in (between, *([] if is_name else [replaced])):
            parsed = read(text.replace(dog, broken), dialect)
            assert [item.values for item in parsed.objects] == [CAT[1], CAT[1]], broken
            shown = [(item.reason, item.detail, item.slot) for item in parsed.drops]
            assert shown == [("wrong_arity", "foreign_token", slot)], broken


def test_text_in_a_polygon_of_florence_is_foreign():
    """A polygon does not lose its later points in silence, nor is a name made of what parts them."""
    text = (
        "cat<poly><loc_1><loc_2><loc_9><loc_2><loc_9><loc_8>第九<loc_1><loc_8></poly>"
        "dog<poly><loc_1><loc_2><loc_9><loc_2><loc_9><loc_8></poly>"
    )
    parsed = read(text, "florence2")
    assert [(item.desc, item.kind) for item in parsed.objects] == [("dog", "poly")]
    assert [(item.desc, item.detail, item.evidence) for item in parsed.drops] == [
        ("cat", "foreign_token", "第九")
    ]
