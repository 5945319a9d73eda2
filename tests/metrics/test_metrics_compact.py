"""Columns of few bytes are the lists that they stand for, and a run read in parts is the run."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.metrics import coco_engine, collect, objects_table, other_samples, parquet
from coordeval.metrics.attribution import candidates
from coordeval.metrics.attribution.attribution import attribute
from coordeval.metrics.compact import Numbers, Texts, Values, Whole
from coordeval.metrics.packed_text import pack, unpack
from coordeval.metrics.score import score_run
from coordeval.metrics.sparse_rows import SparseRows
from coordeval.metrics.write import write_score
from coordeval.runs import open_run

NUMBERS = st.sampled_from([0, 1, 127, 128, 999, 32767, 32768, 10**9]) | st.integers(0, 10**9)
TUPLES = st.none() | st.lists(NUMBERS | st.integers(-(10**9), 0), max_size=6).map(tuple)
TEXTS = st.none() | st.text(max_size=3)


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (Whole, NUMBERS),
        (lambda: Whole(optional=True), st.none() | NUMBERS),
        (Texts, TEXTS),
        (Values, TUPLES),
    ],
)
@given(st.data())
@settings(max_examples=60)
def test_a_column_is_the_list_of_what_was_added(make, rows, data):
    """Length, items, iteration and parts are those of a list, however the rows came."""
    blocks = data.draw(st.lists(st.lists(rows, max_size=5), max_size=4))
    column, plain = make(), []
    for block in blocks:
        if len(block) == 1:
            column.append(block[0])
        else:
            column.extend(block)
        plain += block
        assert column == plain
    assert len(column) == len(plain)
    assert [column[row] for row in range(len(plain))] == plain == list(column)
    first = data.draw(st.integers(0, len(plain)))
    last = data.draw(st.integers(first, len(plain)))
    assert column.part(first, last) == plain[first:last]
    assert column != [*plain, 0]
    with pytest.raises(IndexError):
        column[len(plain)]


def test_a_text_beyond_a_byte_of_distinct_ones_is_still_itself():
    """Codes grow with the number of distinct texts; the earlier ones stay what they were."""
    column, plain = Texts(), [str(k) for k in range(40_000)]
    column.extend(plain)
    assert list(column) == plain
    assert column.count("7") == 1
    assert column.count("none") == 0


def test_numbers_take_their_type_and_no_more():
    """Rows come back as they were added; a column takes the bytes of its type."""
    column = Numbers(np.float64, width=2)
    column.extend(np.array([[1.5, 2.0]]))
    column.extend([])
    column.extend([[0.1, -3.0]])
    assert len(column) == 2
    assert column.array().tolist() == [[1.5, 2.0], [0.1, -3.0]]
    assert column.array().nbytes == 32
    flat = Numbers(np.int32)
    flat.extend([1, 2, 3])
    flat.put(1, [8, 9])
    assert flat.array().tolist() == [1, 8, 9]
    assert Numbers(np.bool_).array().tolist() == []


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_a_packed_text_comes_back(text):
    """Also lone surrogates, NUL and what compresses badly."""
    assert unpack(pack(text)) == text


def test_a_coordinate_text_shrinks_to_a_quarter(rec, text):
    """The texts that this is for take less than a quarter of their characters."""
    whole = text(*(rec("person", [k, 2 * k, 3 * k + 1, 4 * k + 1]) for k in range(1, 30)))
    assert len(pack(whole)) < len(whole) / 4


def test_a_column_can_be_asked_for_a_row():
    """As a list can: whether a row stands there, and whether all rows are those of another."""
    for column, there, absent in (
        (Whole(optional=True), [3, None], 4),
        (Texts(), ["a", None], "b"),
        (Values(), [(1, 2), None], (2, 1)),
    ):
        column.extend(there)
        assert isinstance(column, Collection)
        assert all(row in column for row in there)
        assert absent not in column
        assert column == there
        assert column != [*there, absent]


def test_sparse_rows_are_the_rows():
    """Each row comes back whole and of its type; `count` says in how many a place is set."""
    rows = np.array([[-1, 4, -1, 0], [-1, -1, -1, 2]])
    sparse = SparseRows(-1)
    for row in rows:
        sparse.append(row)
    assert np.array_equal(np.array(list(sparse)), rows)
    assert sparse[0].dtype == rows.dtype
    assert sparse.count().tolist() == [0, 1, 0, 2]
    assert [sparse.places(row).tolist() for row in range(2)] == [[1, 3], [3]]


def odd_run(folder, rec, text, *, tokens, declared):
    """40 images: repeats, loops, drops, polygons, lines, errors, other samples, names of all sorts.

    With `tokens` every line has ids and log-probabilities; the first lines hold no coordinates.
    """
    rng, lines = np.random.default_rng(3), []
    for number in range(40):
        names = [f"kind {k}" for k in rng.integers(0, 6, 5)]
        corners = rng.integers(0, 400, (5, 2))
        records = [
            rec(name, [x, y, x + 90, y + 70]) for name, (x, y) in zip(names, corners, strict=True)
        ]
        records += [rec("kind 1", [5, 5, 5, 9]), rec("tri", [1, 1, 80, 1, 1, 80], "poly")]
        records += [rec("wire", [1, 1, 80, 80], "line"), records[0]]
        records += [records[1]] * (6 if number % 7 == 0 else 0)
        written = text(*records) if number > 3 else "nothing here"
        written = written[: -7 * (number % 3)] if number % 3 else written
        if number % 11 == 0:
            written += " so so" * 30
        gt = [
            {"desc": name, "bbox_2d": [int(x) + shift, int(y), int(x) + 95, int(y) + 70]}
            for name, (x, y), shift in zip(
                names[:4], corners[:4], rng.integers(0, 40, 4).tolist(), strict=True
            )
        ]
        gt += [{"desc": "Kind  1", "bbox_2d": [1, 1, 1, 9], "category_id": 9}]
        gt += [{"desc": "tri", "poly": [0, 0, 80, 0, 0, 80]}, {"desc": "w", "line": [1, 1, 5, 5]}]
        line = {"id": f"i{number}", "width": 1000, "height": 1000, "gt": gt, "text": written}
        if tokens:
            ids = [7000 + int(k) for k in re.findall(r"<\|coord_(\d+)\|>", written)]
            ids += [5] * (number % 2)
            line |= {"token_ids": ids, "token_logprobs": rng.normal(-1, 0.3, len(ids)).tolist()}
        if number == 17:
            line |= {"error": "gone", "finish_reason": "error"}
        lines.append(line)
        if number % 5 == 0:
            lines.append(line | {"sample_index": 1, "text": text(*records[:2])})
    folder.mkdir()
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    meta = {"format": "coordeval-run/1", "frame": "unit-1000"}
    if declared:
        meta["vocabulary"] = {"first": 7000}
    (folder / "run.json").write_text(json.dumps(meta))
    return folder


def everything(folder, out):
    """All that scoring says of a run, and what lies on the disk afterwards."""
    result = score_run(open_run(folder))
    write_score(result, out)
    tables = {name: pd.read_parquet(out / f"{name}.parquet") for name in ("per_image", "objects")}
    return result, attribute(result).to_json(), tables, (out / "coco_results.json").read_bytes()


@pytest.mark.parametrize("part", [1, 7])
@pytest.mark.parametrize(("tokens", "declared"), [(False, False), (True, False), (True, True)])
def test_a_run_in_parts_is_the_run(tokens, declared, part, tmp_path, rec, text, monkeypatch):
    """However few images, classes and rows go through at once, nothing changes in any bit."""
    run = odd_run(tmp_path / "run", rec, text, tokens=tokens, declared=declared)
    want, costs, tables, coco = everything(run, tmp_path / "whole")
    assert want.score_source == ("logprob" if tokens else "constant")
    assert len({want.metrics[f"coco/{key}"] for key in ("AP", "AP50", "AP75", "AR1", "AR10")}) == 5
    assert want.loops
    assert want.metrics["parse/dropped_invalid"]
    monkeypatch.setattr(collect, "PART_ROLLOUTS", part)
    monkeypatch.setattr(other_samples, "PART_IMAGES", part)
    monkeypatch.setattr(candidates, "PART_ROWS", 5 * part)
    monkeypatch.setattr(coco_engine, "PART_OBJECTS", 20 * part)
    for module in (objects_table, parquet):
        monkeypatch.setattr(module, "PART_ROWS", 13 * part)
    found, found_costs, found_tables, found_coco = everything(run, tmp_path / "parts")
    assert found.to_json() == want.to_json()
    assert found.loops == want.loops
    assert found_costs == costs
    assert found_coco == coco
    assert found.scores.tobytes() == want.scores.tobytes()
    assert [entry.text for entry in found.columns.images] == [
        entry.text for entry in want.columns.images
    ]
    for name, table in tables.items():
        pd.testing.assert_frame_equal(found_tables[name], table)
    pd.testing.assert_frame_equal(found.objects, want.objects)
    for whole, parts in ((want.per_image, tables["per_image"]), (want.objects, tables["objects"])):
        assert len(whole) == len(parts)


def test_texts_are_kept_and_tokens_are_not(tmp_path, rec, text):
    """A scored run still has every text verbatim; of the tokens it keeps how many there were."""
    run = open_run(odd_run(tmp_path / "run", rec, text, tokens=True, declared=False))
    written = {line.id: line for line in run.rollouts() if line.sample_index == 0}
    for entry in score_run(run).columns.images:
        assert entry.text == ("" if entry.failed else written[entry.id].text)
        assert entry.token_ids is entry.token_logprobs is None
        assert entry.num_tokens == (None if entry.failed else len(written[entry.id].token_ids))
