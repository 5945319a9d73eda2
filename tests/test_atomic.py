"""Files that a user names: replaced as a whole, through links, and never in the place of a device."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from coordeval.atomic import output_file


def test_an_output_is_the_old_file_until_it_is_the_new_one(tmp_path):
    """What fails half-way leaves the old content, and nothing beside it."""
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail():
        with output_file(path) as place:
            place.write_text("ne")
            tmp_path.read_bytes()

    with pytest.raises(IsADirectoryError):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"
    with output_file(path) as place:
        place.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_links_in_an_output_path_are_followed(tmp_path):
    """The file that a link leads to is replaced, and the link stays, also where it leads nowhere."""
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "page.html", tmp_path / "page.html"
    link.symlink_to(target)
    for content in ("first", "second"):
        with output_file(link) as place:
            place.write_text(content)
        assert (link.is_symlink(), target.read_text()) == (True, content)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_an_output_is_written_to(tmp_path):
    """A device that is named (/dev/null, /dev/stdout) takes the bytes, and no file replaces it."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with output_file(pipe) as place:
        place.write_bytes(b"content")
    reader.join(timeout=30)
    assert read == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
