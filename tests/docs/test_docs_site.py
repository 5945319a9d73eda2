"""The documentation site: built strictly, and asking nothing of the network."""

import re
import shutil
import subprocess
import sys

import pytest
from page_blocks import DOCS, ROOT

import coordeval


def build(source, out):
    """Sphinx as `make site` calls it."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", source, out],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site of the pages as they stand."""
    out = tmp_path_factory.mktemp("site")
    done = build(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_builds_without_a_warning(site):
    """Every page is built, held by the contents, and every link between pages resolves."""
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file()
    start = (site / "index.html").read_text(encoding="utf-8")
    assert f"coordeval {coordeval.__version__}" in start
    for name in ("tutorial", "howto/new_metric", "training_yaml", "project/changelog"):
        assert f'href="{name}.html"' in start


def test_a_page_shows_tables_and_pictures_and_links_to_the_copies(site):
    """Tables are tables, bars in code survive, and a link to the fixtures stays inside the site."""
    formats = (site / "formats.html").read_text(encoding="utf-8")
    assert formats.count("<table") >= 4
    assert "&lt;|coord_1|&gt;" in formats
    decoding = (site / "decoding.html").read_text(encoding="utf-8")
    assert 'href="project/fixtures.html"' in decoding
    assert (site / "_images" / "overview.svg").is_file()
    assert "examples.yaml" not in (site / "training_yaml.html").read_text(encoding="utf-8")
    assert list((site / "_downloads").rglob("train_example.yaml"))


def test_the_site_loads_nothing_from_the_network(site):
    """No page fetches a script, style, font or picture from anywhere else."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(//|https?:)[^"]*"', text
        )
        assert not loaded, page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), (
            style
        )


FAULTS = {  # page, what is added to it, what the build must say
    "heading": ("probe.md", "\n[x](formats.md#no-such-heading)\n", "no-such-heading"),
    "page": ("ci.md", "\n[x](no_such_page.md)\n", "no_such_page"),
    "picture": ("engines.md", "\n![x](images/no_such_picture.svg)\n", "no_such_picture"),
    "forgotten page": ("forgotten.md", "# In no table of contents\n", "forgotten.md"),
}


def test_faults_fail_the_build_and_are_named(tmp_path):
    """A lost heading, page or picture, and a page that no contents hold: each is told, exit 1."""
    for name in ("docs", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("coordeval/__init__.py", "CHANGELOG.md", "CONTRIBUTING.md", "fixtures/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for page, text, _ in FAULTS.values():
        with (tmp_path / "docs" / page).open("a", encoding="utf-8") as file:
            file.write(text)
    done = build(tmp_path / "docs", tmp_path / "out")
    assert done.returncode == 1
    for kind, (page, _, said) in FAULTS.items():
        assert any(page in line and said in line for line in done.stderr.splitlines()), kind
