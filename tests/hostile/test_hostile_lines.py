"""JSON lines of strangers: long lines, depth, numbers, surrogates, repeated keys, fifos."""

import gzip
import json
import os
from pathlib import Path

import pytest
from refusals import peak_mb

from coordeval import jsonl
from coordeval.coords import frame_named
from coordeval.data.class_list import read_class_list
from coordeval.data.dataset import open_dataset
from coordeval.data.validate import validate_dataset
from coordeval.dynamics.discover import read_logs
from coordeval.engines.checkpoint import Checkpoint
from coordeval.engines.selection import parse_selection
from coordeval.errors import CoordevalError, DataError
from coordeval.exchange.dump_files import find_dumps, read_rows
from coordeval.jsonl import load_json
from coordeval.metrics.score import score_run
from coordeval.rollout_lines import iter_rollouts
from coordeval.runs import open_run, read_meta
from coordeval.stats.baseline import read_baseline

ROLLOUT = {"id": "a", "width": 10, "height": 10, "gt": [], "text": ""}
RECORD = {"image": "a.png", "width": 10, "height": 10, "objects": []}
LIMIT_MB = 64


def read_rollouts(path):
    return list(iter_rollouts(path, frame_named("coordexp")))


def read_dataset(path):
    return list(open_dataset(path, need_images=False))


def sparse(path):
    """A file that is long and takes no room: a few bytes, then zeros."""
    with path.open("wb") as handle:
        handle.write(b"{")
        handle.truncate(jsonl.MAX_DOCUMENT_BYTES + 1)
    return path


def read_dump(path):
    (dump,) = find_dumps([path])
    return list(read_rows(dump))


READERS = {
    "rollouts": (read_rollouts, ROLLOUT),
    "dataset": (read_dataset, RECORD),
    "log": (lambda path: read_logs([path]), {"step": 1, "loss": 0.5}),
    "dump": (read_dump, ROLLOUT),
}


def refused(read, path):
    """The refusal of a file: one bounded line that names it."""
    with pytest.raises(CoordevalError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1000
    assert str(path) in text
    return text


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("good_first", [True, False])
def test_a_line_above_the_limit_is_refused_by_its_number(tmp_path, monkeypatch, name, good_first):
    """A line longer than the limit is refused before it is parsed, and named by its number."""
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1 << 20)
    read, row = READERS[name]
    good = json.dumps(row) + "\n"
    path = tmp_path / "lines.jsonl"
    long = json.dumps({**row, "id": "b", "filler": "x" * (2 << 20)}) + "\n"
    path.write_text((good if good_first else "") + long)
    assert f":{2 if good_first else 1}: line longer" in refused(read, path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("form", ["plain", "gzip", "endless"])
def test_memory_is_bounded_by_the_limit_on_lines(tmp_path, name, form):
    """300 MB in one line, a gzip that unpacks to it, and a device without end take two limits."""
    path = tmp_path / "lines.jsonl"
    if form == "plain":
        with path.open("wb") as handle:
            handle.truncate(300 << 20)  # a sparse file: zeros, no line end
    elif form == "gzip":
        if name != "dataset":
            pytest.skip("only datasets are unpacked")
        with gzip.open(path, "wb", compresslevel=1) as handle:
            for _ in range(300):
                handle.write(b"[" * (1 << 20))
    else:
        path.symlink_to("/dev/zero")
        if name == "dump":
            pytest.skip("a device is no dump: it is refused as no file")
        if name == "log":
            pytest.skip("a device is no log: it is refused as no file")
    prepare = f"""
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_hostile_lines as lines
    """
    used_mb, refusal = peak_mb(prepare, f"lines.READERS[{name!r}][0](path)", path)
    assert "longer than" in refusal
    assert used_mb < 2 * LIMIT_MB + 40


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        '{"step": ' + "9" * 10_000 + "}",
        '{"id": "a\0b"}',
        '"\\ud800',
        "\ufffe",
        "nul\0",
        '{"a": 1}{"b": 2}',
    ],
    ids=["[", "{", "int", "step", "nul", "surrogate", "nonchar", "bytes", "two"],
)
def test_hostile_lines_are_one_line_errors(tmp_path, name, text):
    """Depth, digits, NUL and two documents in a line are refused, with file and line."""
    read, row = READERS[name]
    path = tmp_path / "lines.jsonl"
    path.write_text(f"{text}\n{json.dumps(row)}\n")
    refused(read, path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("surrogate", ["", "\\ud800"])
@pytest.mark.parametrize("key", ["token_logprobs", "scores", "token_ids", "width", "gt"])
def test_numbers_that_are_none_never_reach_a_metric(tmp_path, number, surrogate, key):
    """NaN, infinities and numbers beyond floats are refused, in lines with surrogates as well."""
    line = json.dumps({**ROLLOUT, key: "HERE"}).replace('"text": ""', f'"text": "{surrogate}"')
    value = {
        "width": number,
        "gt": f'[{{"desc": "x", "bbox_2d": [0, 0, 1, {number}]}}]',
    }.get(key, f"[{number}]")
    path = tmp_path / "lines.jsonl"
    path.write_text(line.replace('"HERE"', value) + "\n")
    refused(lambda p: score_run(open_run(p)), path)


@pytest.mark.parametrize("value", [2**31, 2**63, 2**64, 10**30, -1])
@pytest.mark.parametrize("surrogate", ["", "\ud800"])
@pytest.mark.parametrize("key", ["width", "sample_index", "token_ids"])
def test_huge_integers_are_refused_where_they_would_overflow(tmp_path, value, surrogate, key):
    """Sides, indices and ids that no machine integer holds are one line, not a traceback."""
    put = [value] if key == "token_ids" else value
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps({**ROLLOUT, key: put, "text": surrogate}) + "\n")
    refused(lambda p: score_run(open_run(p)), path)


def test_a_surrogate_elsewhere_changes_no_number():
    """The reader for surrogates reads numbers as the fast one does."""
    for number in ("5", "18446744073709551615", "18446744073709551616", "-9223372036854775809"):
        plain, other = (
            load_json(f"[{number}]".encode()),
            load_json(f'[{number}, "\\ud800"]'.encode()),
        )
        assert plain[0] == other[0]
        assert type(plain[0]) is type(other[0])


@pytest.mark.parametrize("key", ["image", "error"])
@pytest.mark.parametrize("value", [5, True, [], {"a": 1}])
def test_texts_of_another_type_are_refused(tmp_path, key, value):
    """An image or error that is no text is named, with its line."""
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps({**ROLLOUT, key: value}) + "\n")
    assert f"{path}:1: '{key}' must be a string" in refused(read_rollouts, path)


def test_of_repeated_keys_the_last_counts(tmp_path):
    """JSON leaves repeated keys open; here the last one counts, with and without surrogates."""
    path = tmp_path / "lines.jsonl"
    for extra in ("", ', "image": "\\ud800"'):
        path.write_text(
            '{"text": "first", ' + json.dumps(ROLLOUT)[1:-1] + extra + ', "text": "last"}'
        )
        assert [rollout.text for rollout in read_rollouts(path)] == ["last"]


def test_lone_surrogates_and_nul_in_ids_survive_scoring(tmp_path):
    """Odd but valid texts are kept: nothing is dropped for how it looks."""
    path = tmp_path / "lines.jsonl"
    ids = ["\ud800", "a\0b", "\u202ex", "../../x", "", "=1+1", "<b>"]
    path.write_text("".join(json.dumps({**ROLLOUT, "id": name}) + "\n" for name in ids))
    result = score_run(open_run(path))
    assert [entry.id for entry in result.columns.images] == ids


@pytest.mark.parametrize("name", ["rollouts.jsonl", "run.json"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "broken link"])
def test_a_run_of_odd_files_is_refused_at_once(tmp_path, name, kind):
    """A fifo in the place of a file would be waited for without end; it is refused."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text('{"format": "coordeval-run/1"}')
    (folder / "rollouts.jsonl").write_text(json.dumps(ROLLOUT) + "\n")
    odd = folder / name
    odd.unlink()
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to(folder / "nowhere")
    refused(open_run, folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("categories", [5]),
        ("categories", {"a": 1}),
        ("categories", [{"id": "x", "name": "y"}]),
        ("categories", [{"id": 1e300, "name": []}, {"name": "x"}]),
        ("dialect", {"name": "x", "coordinates": []}),
        ("dialect", {"name": "x", "container": {}}),
        ("dialect", {"name": ["x"]}),
        ("dialect", {"evil": 1}),
        ("frame", "nope"),
        ("frame", {"a": 1}),
        ("format", "coordeval-run/99"),
        ("format", ["coordeval-run/1"]),
    ],
)
def test_a_foreign_run_json_is_refused_in_one_line(tmp_path, key, value):
    """Values of the wrong type in run.json are faults of the file, not of coordeval."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"format": "coordeval-run/1", key: value}))
    (folder / "rollouts.jsonl").write_text(json.dumps(ROLLOUT) + "\n")
    with pytest.raises(CoordevalError) as caught:
        score_run(open_run(folder))
    assert "\n" not in str(caught.value)


def test_a_gzip_that_is_damaged_or_too_large_is_one_line(tmp_path, monkeypatch):
    """A damaged archive, and one that unpacks to more than a document may be, are refused."""
    monkeypatch.setattr("coordeval.data.dataset.MAX_DOCUMENT_BYTES", 1 << 20)
    path = tmp_path / "instances.json.gz"
    path.write_bytes(gzip.compress(b"{" + b" " * (2 << 20) + b"}"))
    assert "larger than" in refused(read_dataset, path)
    path.write_bytes(gzip.compress(b"{\n" + b'"a":1,\n' * (1 << 18) + b"}"))
    assert "larger than" in refused(read_dataset, path)
    path.write_bytes(gzip.compress(json.dumps(RECORD).encode() * 50)[:-20])
    refused(read_dataset, path)


def test_validation_goes_on_after_hostile_lines(tmp_path):
    """Every hostile line is a problem of its own; the others are still looked at."""
    path = tmp_path / "data.jsonl"
    rows = ["[" * 50_000, "9" * 5_000, json.dumps({**RECORD, "image": "x" * 5000 + ".png"})]
    rows += ['{"image": "b.png", "width": 1e999, "height": NaN, "objects": 5}', json.dumps(RECORD)]
    path.write_text("\n".join(rows))
    report = validate_dataset(path)
    assert report.num_images == 5
    assert report.log.counts["malformed_line"] + report.log.counts["non_finite"] >= 3
    assert report.log.counts["missing_image"] == 2


def test_blank_lines_without_end_are_no_memory(tmp_path):
    """A gzip of nothing but line ends is read to its end in the memory of one line."""
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 2_000_000))
    prepare = "from coordeval.data.dataset import dataset_lines"
    used_mb, refusal = peak_mb(prepare, "assert not list(dataset_lines(path))", path)
    assert used_mb < 20
    assert not refusal


def test_a_dataset_error_names_line_and_quotes_little(tmp_path):
    """A megabyte in one value does not become a megabyte of error line."""
    long = "x" * 1_000_000
    for change in ({"width": long}, {"coord_space": long}, {"frame": long}, {"id": ["x"] * 10**5}):
        path = tmp_path / "data.jsonl"
        path.write_text(json.dumps(RECORD | change) + "\n")
        refused(read_dataset, path)
    with pytest.raises(DataError) as caught:
        read_rollouts_with(tmp_path, {"finish_reason": long})
    assert len(str(caught.value)) < 500


def read_rollouts_with(tmp_path, change):
    path = tmp_path / "lines.jsonl"
    path.write_text(json.dumps(ROLLOUT | change) + "\n")
    return read_rollouts(path)


def test_documents_above_the_limit_are_not_read(tmp_path):
    """run.json, scores, baselines, parts of a checkpoint and lists of names are read in bounds."""
    huge = sparse(tmp_path / "huge.json")
    config = tmp_path / "checkpoint" / "config.json"
    config.parent.mkdir()
    huge.rename(config)
    for read in (
        lambda: read_meta(config),
        lambda: read_baseline(config),
        lambda: read_class_list(config),
        lambda: parse_selection(ids=str(config), limit=None, shard=None),
        lambda: Checkpoint(source="x", path=config.parent, name="x").config(),
    ):
        with pytest.raises(CoordevalError, match="larger than 512 MiB") as caught:
            read()
        assert "\n" not in str(caught.value)


BAND = """{"objects": [{"desc": "a", "poly": [<|coord_222|>, <|coord_222|>, <|coord_999|>,
<|coord_222|>, <|coord_999|>, <|coord_888|>, <|coord_222|>, <|coord_888|>]}]}"""


@pytest.mark.parametrize("far", [1e9, 1e12])
def test_polygons_of_any_size_are_scored(tmp_path, far):
    """One vertex far away costs no memory and ends no process; what is on the image is matched."""
    path = tmp_path / "run.jsonl"
    gt = [{"desc": "a", "poly": [2, 2, far, 2, far, 8, 2, 8]}]
    path.write_text(json.dumps(ROLLOUT | {"gt": gt, "text": BAND}) + "\n")
    prepare = """
        from coordeval.metrics.score import score_run
        from coordeval.runs import open_run
    """
    call = "assert score_run(open_run(path)).metrics['f1/0.50/f1'] == 1"
    used_mb, refusal = peak_mb(prepare, call, path)
    assert used_mb < 200
    assert not refusal


@pytest.mark.parametrize("far", [1e13, 1.7e308, -(10**30)])
@pytest.mark.parametrize("kind", ["poly", "bbox_2d"])
def test_coordinates_beyond_all_images_are_refused(tmp_path, kind, far):
    """Their areas would overflow; the line is named."""
    path = tmp_path / "run.jsonl"
    box = {"bbox_2d": [0, 0, far, 8], "poly": [2, 2, far, 2, far, 8, 2, 8]}[kind]
    path.write_text(json.dumps(ROLLOUT | {"gt": [{"desc": "a", kind: box}]}) + "\n")
    with pytest.raises(DataError, match=r"run.jsonl:1: .* not finite or beyond 1e\+12"):
        score_run(open_run(path))
