"""Real outputs of other models: every row is read, reconciled and explained."""

import ast
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from coordeval.coords import FRAMES
from coordeval.parsers import dialect_named, parse
from coordeval.parsers.declared import declared
from coordeval.parsers.dialects import value_frame

DATA = os.environ.get("COORDEVAL_DATA")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(DATA is None, reason="COORDEVAL_DATA is not set"),
]


def rows(name):
    path = Path(DATA or "", "raw_vlm", name)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def literal(text):
    """What a notebook shows of a string is its Python literal."""
    return ast.literal_eval(text.strip())


def raw_output(text):
    """The model's own text among what the notebook of Rex-Omni prints."""
    return re.search(r"<\|object_ref_start\|>.*<\|box_end\|><\|im_end\|>", text).group()


def assistant(text):
    return re.findall(r"'?content'?[:=] ?'(<loc[^']*)'", text)[0]


def whole(text):
    return text


def own(**keys):
    return declared(keys, where="test", name="declared")


FOOD = own(like="qwen3vl", name_keys=["name_en"], ignore=["name_zh"])
BOXES = own(name_key="object", box_key="bboxes", several=True, coordinates="bins", max_value=1000)
GEMINI = own(
    name_key="label",
    box_key="box_2d",
    ignore=["mask"],
    corners="yxyx",
    coordinates="bins",
    max_value=1000,
)
DROPPED_3D = "unexpected_keys:bbox_3d"
TOOL_CALL = {"no_container", "text_before", "text_after"}
# Row: the text in it, the dialect, issues, kept, drops by reason and detail; and why.
ROWS = {
    0: (whole, "qwen3vl", set(), 0, {"unexpected_keys:name_en,name_zh": 7}),  # asked for two names
    "0 declared": (whole, FOOD, set(), 7, {}),
    # Names in an object, and a brace too many before the sixth record, which stays readable.
    1: (
        whole,
        "qwen3vl",
        {"missing_comma"},
        0,
        {"unexpected_keys:names": 9, "malformed_record:missing_key": 1},
    ),
    2: (  # a point is no geometry here; the notebook prints around it
        whole,
        "qwen3vl",
        {"text_before", "text_after"},
        0,
        {"unexpected_keys:point_2d": 1},
    ),
    3: (whole, "qwen3vl", {"text_before", "single_quotes"}, 0, {DROPPED_3D: 2}),
    4: (whole, "qwen3vl", {"text_before", "single_quotes"}, 0, {DROPPED_3D: 1}),
    5: (whole, "qwen3vl", {"text_before", "single_quotes"}, 0, {DROPPED_3D: 4}),
    6: (whole, "qwen3vl", {"text_before", "single_quotes"}, 0, {DROPPED_3D: 1}),
    # Calls of a tool in the middle of prose, with an argument of the tool's.
    **{n: (whole, "qwen3vl", TOOL_CALL, 0, {"unexpected_keys:img_idx": 1}) for n in range(7, 12)},
    12: (raw_output, "rex-omni", {"text_after"}, 30, {}),  # its end token is still there
    13: (whole, "rex-omni", {"text_before", "text_after"}, 8, {}),  # quadrilaterals
    14: (whole, "qwen25vl", set(), 0, {"unexpected_keys:bboxes,object": 8}),  # other keys
    "14 declared": (whole, BOXES, set(), 8, {}),
    15: (literal, "paligemma", set(), 2, {}),
    16: (whole, "paligemma", {"trailing_comma"}, 4, {}),  # ends with " ; "
    17: (literal, "qwen3vl", set(), 0, {"unexpected_keys:box_2d": 1}),
    "17 declared": (literal, GEMINI, set(), 1, {}),
    18: (literal, "qwen3vl", set(), 0, {"unexpected_keys:box_2d,mask": 2}),
    "18 declared": (literal, GEMINI, set(), 2, {}),
    19: (assistant, "paligemma", set(), 4, {}),  # GPT-4o, taught PaliGemma's format
    20: (assistant, "paligemma", set(), 4, {}),
    21: (whole, "qwen25vl", {"trailing_comma"}, 39, {}),  # a comma after every last field
}


@pytest.mark.parametrize("name", ROWS, ids=str)
def test_every_notebook_row_is_explained(name):
    """What is kept, what is dropped and why, and what is wrong around it, row by row."""
    text_in, dialect, issues, valid, drops = ROWS[name]
    number = name if isinstance(name, int) else int(name.split()[0])
    text = text_in(rows("notebook_outputs.jsonl")[number]["cell_output"])
    parsed = parse(text, dialect)
    assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
    assert set(parsed.issues) == issues
    assert parsed.objects_valid == valid
    assert Counter(f"{item.reason}:{item.detail}" for item in parsed.drops) == drops


def test_the_table_above_leaves_no_notebook_row_out():
    """22 rows, each explained at least once."""
    explained = {name if isinstance(name, int) else int(name.split()[0]) for name in ROWS}
    assert explained == set(range(len(rows("notebook_outputs.jsonl")))) == set(range(22))


def test_pixels_of_rex_omni_are_those_that_it_extracts_itself():
    """Every box of the notebook, against the numbers that its own wrapper printed."""
    shown = rows("notebook_outputs.jsonl")[12]["cell_output"]
    theirs = ast.literal_eval(re.search(r"extracted_predictions : (\{.*\})", shown).group(1))
    dialect = dialect_named("rex-omni")
    frame = value_frame(dialect, FRAMES["coordexp"])
    found: dict[str, list[list[float]]] = {}
    for item in parse(raw_output(shown), dialect).objects:
        found.setdefault(item.desc, []).append(frame.to_pixels(item.values, 1440, 810).tolist())
    assert {name: len(boxes) for name, boxes in found.items()} == {
        name: len(boxes) for name, boxes in theirs.items()
    }
    for name, boxes in theirs.items():
        for mine, other in zip(found[name], boxes, strict=True):
            assert mine == pytest.approx(other["coords"])


def cogvlm_text(row):
    """The answer without its one final end token, as a rollout's text is."""
    return row["raw"].removesuffix("</s>")


def test_every_cogvlm_row_is_explained():
    """Kept, dropped and issues of all 500 rows; each pair of brackets is accounted for."""
    totals: Counter[str] = Counter()
    for row in rows("cogvlm_coco_val2017_captions.jsonl"):
        text = cogvlm_text(row)
        parsed = parse(text, "cogvlm")
        assert parsed.objects_found == parsed.objects_valid + sum(parsed.dropped_by_reason.values())
        assert parsed.objects_found == row["n_boxes"]  # counted by whoever published the rows
        assert set(parsed.issues) <= {"no_container", "truncated"}
        assert ("no_container" in parsed.issues) == ("[[" not in text)
        totals.update(f"drop:{item.reason}:{item.detail}" for item in parsed.drops)
        totals.update(f"issue:{name}" for name in parsed.issues)
        totals["found"] += parsed.objects_found
        totals["kept"] += parsed.objects_valid
    assert totals == {
        "found": 1697,
        "kept": 1695,
        "drop:degenerate_box:empty_box": 1,
        "drop:truncated_record:None": 1,  # the endless loop of boxes, where the limit cut it
        "issue:truncated": 1,
        "issue:no_container": 3,  # captions without any box
    }


def test_phrases_of_cogvlm_have_words():
    """Every kept box has a phrase of words, and nearly all begin as noun phrases do."""
    texts = [cogvlm_text(row) for row in rows("cogvlm_coco_val2017_captions.jsonl")]
    names = [item.desc for text in texts for item in parse(text, "cogvlm").objects]
    assert all(re.search(r"\w", name) for name in names)
    assert not any("[" in name or name != name.strip() for name in names)
    first = Counter(name.split()[0].casefold() for name in names)
    assert sum(first[word] for word in ("a", "an", "the", "two", "his", "her")) > 0.6 * len(names)
