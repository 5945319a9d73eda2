"""Paths from files and command lines are looked at without raising."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordeval.foreign_paths import exists, expand_home, is_file, is_folder


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "\ud800", "", "~nobody-of-this-name/x"])
def test_names_that_no_file_has_are_no_files(name):
    """Too long, with NUL, not valid Unicode, empty, or of an unknown user: nothing there."""
    path = Path("/nowhere") / expand_home(name)
    assert not exists(path)
    assert not is_file(path)
    assert not is_folder(path)


def test_what_is_there_is_told_apart(tmp_path):
    """A folder is no file, a file no folder, and both exist."""
    (tmp_path / "f").write_text("x")
    assert exists(tmp_path)
    assert is_folder(tmp_path)
    assert not is_file(tmp_path)
    assert exists(tmp_path / "f")
    assert is_file(tmp_path / "f")
    assert not is_folder(tmp_path / "f")


def test_the_home_folder_is_the_one_of_the_environment(tmp_path, monkeypatch):
    """`~` is $HOME; a user that does not exist leaves the path as it was written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/runs") == tmp_path / "runs"
    assert expand_home("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert expand_home("a/~") == Path("a/~")
