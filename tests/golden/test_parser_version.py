"""A reading that changes raises the parser's version: stored numbers are then not taken for today's."""

import hashlib

import pytest

from coordeval.parsers import PARSER_VERSION, parse

BARE = (
    '{"objects": [{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_30|>, <|coord_40|>]}, '
    '{"desc": "dog", "poly": [<|coord_5|>, <|coord_6|>, <|coord_70|>, <|coord_6|>, <|coord_9|>, '
    "<|coord_80|>]}]}"
)
QUOTED = BARE.replace("<|", '"<|').replace("|>", '|>"')
NUMBERS = '{"objects": [{"desc": "cat", "bbox_2d": [1, 2, 30, 40]}, {"desc": "dog", "bbox_2d": [5, 6, 70, 80]}]}'
MAP = (
    '{"object_1": {"desc": "cat", "bbox_2d": ["<|coord_1|>", "<|coord_2|>", "<|coord_30|>", '
    '"<|coord_40|>"]}, "object_2": {"desc": "dog", "bbox_2d": ["<|coord_5|>", "<|coord_6|>", '
    '"<|coord_70|>", "<|coord_80|>"]}}'
)
QWEN = '[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [5, 6, 70, 80], "label": "dog"}]'
TEXTS = {
    "coordjson": BARE,
    "coordjson-quoted": QUOTED,
    "coordjson-bins": NUMBERS,
    "coordjson-pixels": NUMBERS,
    "object-map": MAP,
    "qwen2.5-vl": QWEN,
    "qwen3vl": QWEN,
    "rex-omni": (
        "<|object_ref_start|>cat<|object_ref_end|><|box_start|><1><2><30><40>,<3><4><50><60>"
        "<|box_end|>, <|object_ref_start|>dog<|object_ref_end|><|box_start|><5><6><70><80><|box_end|>"
    ),
    "paligemma": "<loc0002><loc0001><loc0040><loc0030> cat ; <loc0006><loc0005><loc0080><loc0070> dog",
    "florence2": "cat<loc_1><loc_2><loc_30><loc_40>dog<loc_5><loc_6><loc_70><loc_80>",
    "cogvlm": "A cat [[001,002,030,040]] and a dog [[005,006,070,080;007,008,090,095]].",
}
# The readings of every text above and of its damages. After a change on purpose: raise
# PARSER_VERSION, freeze fixtures/expected anew, and write down the new digests here.
FROZEN = {
    "4": {
        "coordjson": "df1bb1d663eb2f32",
        "coordjson-quoted": "ea380e5f357230de",
        "coordjson-bins": "2ee973fd7bfa84e3",
        "coordjson-pixels": "74f5ab74d24b83eb",
        "object-map": "34dac7ff6679e205",
        "qwen2.5-vl": "9e69cf4785f83c5c",
        "qwen3vl": "957d403a9374f8c3",
        "rex-omni": "6c8f402b2632d08f",
        "paligemma": "1122f71f10c52441",
        "florence2": "7d774e8ddfef82af",
        "cogvlm": "9b2707a93314ff98",
    },
}


def damages(text):
    """The text whole, cut, with characters lost, doubled and replaced, in a fence, twice, in prose."""
    yield text
    for place in range(0, len(text), 3):
        yield text[:place]
        yield text[:place] + text[place + 1 :]
        yield text[:place] + text[place] + text[place:]
        yield text[:place] + '"' + text[place + 1 :]
        yield text[:place] + "第" + text[place + 2 :]
    yield f"```json\n{text}\n```"
    yield f"{text}\n{text}"
    yield f"Here it is: {text} That is all.<|im_end|>"
    yield text.replace('"', "'")
    yield text.replace(", ", ",, ")
    yield text.replace("1", "1234")


def reading(dialect):
    """A digest of how all damages of the dialect's text are read."""
    digest = hashlib.sha256()
    for text in damages(TEXTS[dialect]):
        parsed = parse(text, dialect)
        records = [tuple(record) for record in parsed.records]
        digest.update(repr((records, sorted(parsed.issues.items()))).encode("utf-8"))
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("dialect", TEXTS)
def test_the_same_texts_are_read_as_the_version_says(dialect):
    """What another reading counts, is another version: baselines are re-made, not misread."""
    assert reading(dialect) == FROZEN[PARSER_VERSION][dialect]
