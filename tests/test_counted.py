"""Counts with their noun."""

from __future__ import annotations

import re

import pytest
from forked_commands import FIXTURES, run_forked

from coordeval.counted import counted


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 boxes"), (1, "1 box"), (1.0, "1 box"), (12345, "12,345 boxes"), (None, "- boxes")],
)
def test_a_noun_stands_in_the_right_number(count, text):
    """One is singular, all else is plural, and so is what has no value."""
    assert counted(count, "box", "boxes") == text
    assert counted(count, "image") == text.replace("boxes", "images").replace("box", "image")


def test_no_command_counts_one_in_the_plural(tmp_path):
    """A run of one image, seen by every command that reads runs."""
    run = tmp_path / "run.jsonl"
    [line] = (FIXTURES / "dumps" / "conforming.jsonl").read_text().splitlines()[:1]
    run.write_text(line + "\n")
    dump = FIXTURES / "dumps" / "conforming.jsonl"
    made = tmp_path / "made"
    assert run_forked("import", run, "--out", made).returncode == 0
    scenes = FIXTURES / "scenes" / "heldout.jsonl"
    data = tmp_path / "one.jsonl"
    data.write_text(scenes.read_text().splitlines()[0] + "\n")
    said = ""
    for words in (
        ("import", dump, "--out", tmp_path / "all"),
        ("import", run, "--out", tmp_path / "again"),
        ("score", made),
        ("inspect", made),
        ("compare", made, made),
        ("attribute", made),
        ("check", made, "--gate", "samples/total>=1"),
        ("export", made, "--to", "coco", "--out", tmp_path / "coco"),
        ("data", "validate", data, "--image-root", scenes.parent),
        ("data", "stats", data, "--image-root", scenes.parent),
    ):
        done = run_forked(*words)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    nouns = "images|objects|errors|rollouts|samples|gates|metrics|image files|records|tokens|texts"
    assert not re.findall(rf"(?<![\d.,])1 (?:{nouns})\b", said)
    assert "1 image" in said
