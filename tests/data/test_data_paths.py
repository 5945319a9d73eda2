"""Image paths: what resolves, and what never leaves the image root."""

import os

import pytest

from coordeval.data.paths import resolve_image
from coordeval.errors import DataError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"x")
    (root / "sub" / "b.jpg").write_bytes(b"x")
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "c.jpg").write_bytes(b"x")
    return root


@pytest.mark.parametrize("image", ["a.jpg", "sub/b.jpg", "./a.jpg", "sub/../a.jpg", "sub//b.jpg"])
def test_paths_inside_the_root_resolve(root, image):
    """A path that stays inside the root names the file it says."""
    assert resolve_image(root, image).read_bytes() == b"x"
    assert resolve_image(root, image).is_relative_to(root.resolve())


def test_absolute_paths_inside_the_root_resolve(root):
    """An absolute path is fine where it lies inside the root."""
    assert resolve_image(root, str(root / "a.jpg")) == (root / "a.jpg").resolve()


def test_a_relative_root_and_a_link_to_the_root_work(root, tmp_path, monkeypatch):
    """The root may be relative, or itself a link."""
    (tmp_path / "link").symlink_to(root)
    assert resolve_image(tmp_path / "link", "a.jpg") == (root / "a.jpg").resolve()
    monkeypatch.chdir(tmp_path)
    assert resolve_image(type(root)("root"), "a.jpg") == (root / "a.jpg").resolve()


@pytest.mark.parametrize(
    "image",
    [
        "../secret.jpg",
        "sub/../../secret.jpg",
        "../root2/c.jpg",
        "/etc/passwd",
        "//etc/passwd",
        "..",
        "",
        "   ",
        ".",
        "sub/..",
        "http://example.com/a.jpg",
        "HTTPS://example.com/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "s3://bucket/a.jpg",
        "a.jpg\0.png",
        "\ud800.jpg",
    ],
)
def test_hostile_paths_are_refused_in_one_line(root, image):
    """Whatever leaves the root, or is no path at all, is a DataError of one line."""
    with pytest.raises(DataError) as caught:
        resolve_image(root, image)
    text = str(caught.value)
    assert "\n" not in text
    text.encode("utf-8")


def test_links_that_lead_outside_are_refused(root, tmp_path):
    """A link to a file or folder outside the root is no way out; one to the inside is fine."""
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "folder").symlink_to(tmp_path / "root2")
    (root / "in.jpg").symlink_to(root / "a.jpg")
    for image in ("out.jpg", "folder/c.jpg", "folder/../secret.jpg"):
        with pytest.raises(DataError, match="outside the image root"):
            resolve_image(root, image)
    assert resolve_image(root, "in.jpg") == (root / "a.jpg").resolve()


def test_a_folder_whose_name_begins_like_the_root_is_outside(root, tmp_path):
    """`root2` is not inside `root`."""
    with pytest.raises(DataError):
        resolve_image(root, os.fspath(tmp_path / "root2" / "c.jpg"))


def test_link_loops_and_long_names_do_not_escape_as_other_errors(root):
    """A loop of links and a name that no file system holds resolve to something that is no file."""
    (root / "x").symlink_to(root / "y")
    (root / "y").symlink_to(root / "x")
    for image in ("x", "n" * 5000):
        path = resolve_image(root, image)
        assert path.is_relative_to(root.resolve())
