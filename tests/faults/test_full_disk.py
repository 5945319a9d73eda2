"""A full disk: one line says so, nothing that was finished is lost, and with room it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from forked_commands import FIXTURES, SCENES, files_of

DUMP = FIXTURES / "dumps" / "broken-records.jsonl"
FULL = "No space left on device"


def limit(number_of_bytes):
    return {"kind": "limit_file_size", "number_of_bytes": number_of_bytes}


def lines_of(out):
    return (out / "rollouts.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("number_of_bytes", [3000, 3001, 20_000, 20_100, 20_200, 152_000])
def test_a_rollout_stops_with_whole_lines_where_a_file_may_not_grow(
    number_of_bytes, commands, rollout_words, whole_run, tmp_path
):
    """Wherever the limit cuts a batch, what stands there is whole lines, and the rest follows."""
    out = tmp_path / "run"
    ended = commands.run(*rollout_words(out), faults=[limit(number_of_bytes)])
    assert ended.code == 3
    assert ended.error.startswith(f"error: {out}: cannot be written (File too large)")
    expected = lines_of(whole_run)
    found = lines_of(out)
    assert found == expected[: len(found)]
    assert len(found) % 4 == 0
    assert len(found) < len(expected)
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


def test_where_not_even_run_json_fits_nothing_is_begun(
    commands, rollout_words, whole_run, tmp_path
):
    """A disk that is full from the start is a fault of where to write, and leaves no file."""
    out = tmp_path / "run"
    ended = commands.run(*rollout_words(out), faults=[limit(600)])
    assert (ended.code, ended.error) == (2, f"error: {out}: cannot be written: File too large")
    assert files_of(out) == {}
    assert commands.run(*rollout_words(out)).code == 0
    assert files_of(out) == files_of(whole_run)


@pytest.mark.parametrize("size", ["8k", "12k", "60k", "100k", "152k"])
def test_a_rollout_on_a_full_disk_goes_on_when_there_is_room(
    size, commands, rollout_words, whole_run, disk
):
    """A real disk of some kilobytes: stopped with whole lines, completed byte for byte."""
    with disk(size) as small:
        out = small.path / "run"
        ended = commands.run(*rollout_words(out))
        assert ended.code == (2 if size == "8k" and not (out / "run.json").exists() else 3)
        assert FULL in ended.error
        found = lines_of(out)
        assert found == lines_of(whole_run)[: len(found)]
        again = commands.run(*rollout_words(out))
        assert (again.code, FULL in again.error) in {(2, True), (3, True)}
        assert lines_of(out) == found
        small.grow("10m")
        assert commands.run(*rollout_words(out)).code == 0
        assert files_of(out) == files_of(whole_run)


def test_a_rollout_that_cannot_be_scored_for_lack_of_room_is_complete(
    commands, rollout_words, whole_run, disk
):
    """The rollout is saved and its numbers are shown; only the tables are missing."""
    words = [word for word in rollout_words("RUN") if word != "--no-score"]
    with disk("180k") as small:
        out = small.path / "run"
        ended = commands.run(*[out if word == "RUN" else word for word in words])
        assert ended.code == 2
        assert ended.error.startswith(f"error: {out / 'score'}: cannot be written")
        assert "conforming" in ended.stdout
        assert files_of(out) == files_of(whole_run)


def test_a_score_without_room_shows_its_numbers_and_keeps_the_old_tables(commands, run):
    """Old tables are replaced together or not at all; what was computed is still printed."""
    assert commands.run("score", run).code == 0
    before = files_of(run)
    shown = commands.run("score", run, "--json").stdout
    for number_of_bytes in (15_000, 30_000, 70_000):
        ended = commands.run("score", run, "--json", faults=[limit(number_of_bytes)])
        assert ended.code == 2
        assert ended.error.startswith(f"error: {run / 'score'}: cannot be written: ")
        assert "File too large" in ended.error
        assert ended.stdout == shown
        assert files_of(run) == before


def test_a_report_without_room_keeps_the_old_page(commands, small_run):
    """The page is replaced or left, and no piece of the new one stays behind."""
    page = small_run / "report.html"
    page.write_text("the old page")
    ended = commands.run("report", small_run, "--thumbnails", 0, faults=[limit(100_000)])
    assert (ended.code, ended.error) == (2, f"error: {page}: cannot be written: File too large")
    assert page.read_text() == "the old page"
    assert {path.name for path in small_run.iterdir()} == {
        ".lock",
        "report.html",
        "rollouts.jsonl",
        "run.json",
    }


@pytest.mark.parametrize("number_of_bytes", [1200, 8000, 12_000])
def test_an_import_without_room_goes_on_with_room(number_of_bytes, commands, tmp_path):
    """An import stops with one line and is completed by the same command."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert commands.run("import", DUMP, "--out", whole).code == 0
    sizes = {path.name: path.stat().st_size for path in whole.iterdir()}
    assert number_of_bytes < max(sizes.values())
    ended = commands.run("import", DUMP, "--out", out, faults=[limit(number_of_bytes)])
    assert ended.code in {2, 3}
    assert "cannot be written" in ended.error
    assert commands.run("import", DUMP, "--out", out).code == 0
    there, here = files_of(whole), files_of(out)
    assert there.pop("run.json")["counts"] == here.pop("run.json")["counts"]
    assert here == there


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (("export", "RUN", "--to", "coco", "-o", "OUT"), "OUT"),
        (("export", "RUN", "--to", "parquet", "-o", "OUT/x.parquet"), "OUT/x.parquet"),
        (("export", "RUN", "--to", "csv", "-o", "OUT/x.csv"), "OUT/x.csv"),
        (("check", "RUN", "--baseline", "OUT/b.json", "--update-baseline"), "OUT/b.json"),
        (("overlay", "RUN", "0001", "-o", "OUT/x.png"), "OUT/x.png"),
        (("overlay", "RUN", "0001", "-o", "OUT/x.svg"), "OUT/x.svg"),
        (("data", "convert", "SCENES", "OUT/x.jsonl"), "OUT/x.jsonl"),
        (("report", "RUN", "--figure", "f1_iou", "-o", "OUT/x.svg"), "OUT/x.svg"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_other_outputs_without_room_are_one_line(words, target, commands, small_run, tmp_path):
    """Whatever cannot be stored is named, with exit code 2; what was there before stays whole."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("results.json", "ground_truth.json", Path(target).name):
        if name != "OUT":
            (out / name).write_text("the old one")
    before = files_of(out)
    paths = {"RUN": str(small_run), "OUT": str(out), "SCENES": str(SCENES)}
    named = [
        str(Path(paths[head], *rest)) if head in paths else word
        for word in words
        for head, *rest in [word.split("/")]
    ]
    ended = commands.run(*named, faults=[limit(700)])
    assert ended.code == 2
    assert ended.error.startswith(f"error: {target.replace('OUT', str(out))}: cannot be written: ")
    assert files_of(out) == before


def test_standard_output_on_a_full_disk_is_told(commands, whole_run):
    """What stands behind `>` can be full as well: exit code 2, not a bug."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    for words in (
        ("score", whole_run / "rollouts.jsonl"),
        ("score", whole_run / "rollouts.jsonl", "--json"),
        ("inspect", whole_run),
        ("compare", whole_run, whole_run, "--markdown"),
    ):
        ended = commands.run(*words, stdout=full)
        assert (ended.code, ended.error) == (2, f"error: {FULL}")


def test_a_rewrite_without_room_leaves_the_lines_as_they_are(
    commands, rollout_words, whole_run, run
):
    """Putting resumed lines into order needs room for a second copy; without it nothing is lost."""
    lines = lines_of(run)
    (run / "rollouts.jsonl").write_bytes(b"".join(reversed(lines)))
    ended = commands.run(*rollout_words(run), faults=[limit(60_000)])
    assert ended.code == 3
    assert "it is as it was" in ended.error
    assert lines_of(run) == lines[::-1]
    assert commands.run(*rollout_words(run)).code == 0
    assert files_of(run) == files_of(whole_run)


def test_scoring_reads_from_a_full_disk(commands, rollout_words, disk, whole_run):
    """A run on a disk without a free byte can be read by every command that only reads."""
    with disk("1m") as small:
        out = small.path / "run"
        shutil.copytree(whole_run, out)
        with pytest.raises(OSError, match=FULL):
            (small.path / "filler").write_bytes(b"x" * 2_000_000)
        for words in (
            ("inspect", out),
            ("compare", out, whole_run),
            ("check", out, "--gate", "f1/0.50/f1>=0"),
            ("score", out / "rollouts.jsonl"),
            ("attribute", out),
        ):
            assert commands.run(*words).code == 0
