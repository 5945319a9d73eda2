"""Generated pages are up to date, links lead somewhere, and commands in the README exist."""

import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from forked_commands import run_forked
from page_blocks import DOCS, ROOT, blocks_of, docs_module

page_links = docs_module("page_links")
generate = docs_module("generate")
PAGES = page_links.pages()


def named(page):
    """A page's name in a test's id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_generated_pages_are_up_to_date(name):
    """What docs/generate.py would write is what stands there; mend with `make docs`."""
    assert generate.PAGES[name]() == (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_pictures_lead_somewhere(page):
    """Every inside link of every page names a file that exists, and a heading that stands there."""
    faults = [(link.target, page_links.fault_of(link)) for link in page_links.links_of(page)]
    assert not [fault for fault in faults if fault[1]]


def test_links_that_lead_nowhere_are_found(tmp_path, monkeypatch):
    """A lost file, a lost heading, a path out of the repository: each is told; code is no link."""
    monkeypatch.setattr(page_links, "ROOT", tmp_path)
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# One `two` & [three](x.md)\n\n## Same\n\n## Same\n", encoding="utf-8")
    page.write_text(
        "[1](b.md) [2](b.md#one-two--three) [3](b.md#same-1) [4](https://example.org/x(1))\n"
        "`[no](no.md)` <!-- [no](no.md) -->\n```\n[no](no.md)\n```\n"
        "[5](c.md) [6](b.md#nowhere) [7](../x.md) ![8](no.png) [a [b] c](d.md)\n",
        encoding="utf-8",
    )
    faults = {link.target: page_links.fault_of(link) for link in page_links.links_of(page)}
    sound = {target for target, fault in faults.items() if fault is None}
    assert {"b.md", "b.md#one-two--three", "b.md#same-1"} <= sound
    assert {t for t, fault in faults.items() if fault} == {
        *("c.md", "b.md#nowhere", "../x.md", "no.png", "d.md")
    }


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_row_of_a_table_has_the_cells_of_its_head(page):
    """No bar in a cell is taken for the border of one: bars are escaped, in code too."""
    text = page_links.FENCE.sub("", page.read_text(encoding="utf-8"))
    width = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (width and cells) or cells == width, line
        width = cells


def test_the_tables_of_the_formats_page_come_from_the_code():
    """Each table that code knows best stands between marks, once, and not by hand."""
    tables = docs_module("format_tables")
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    marked = [match["name"] for match in tables.MARKED.finditer(page)]
    assert sorted(marked) == sorted(tables.TABLES)
    assert page.count("<!-- generated:") == page.count("<!-- end of generated") == len(marked)
    for name in ("coordexp", "unit-1000", "object-map-bare", "max_new_tokens"):
        assert f"`{name}`" in page


def test_the_training_yaml_page_names_every_key():
    """Each field of each table of the configuration stands in the page once, with its default."""
    from coordeval.training.config import TrainConfig

    page = (DOCS / "training_yaml.md").read_text(encoding="utf-8")
    sections = {
        match[1]: match[2]
        for match in re.finditer(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    }
    seen = set()

    def check(config_class, prefix, title):
        seen.add(title)
        rows = re.findall(r"^\| \[?`(\w+)`.*$", sections[title], re.MULTILINE)
        assert rows == [field.name for field in fields(config_class)]
        for name, hint in get_type_hints(config_class).items():
            if is_dataclass(hint):
                check(hint, f"{prefix}{name}.", f"`{prefix}{name}`")

    check(TrainConfig, "", "The file")
    assert seen == set(sections)
    assert (
        "| `sigma` | number | `2.0` | bins; width of the soft target |" in sections["`objective`"]
    )
    assert "| `packing` | `true`, `false` | `false` |" in sections["`data`"]
    assert "| `train` | text | must be given |" in sections["`data`"]


def test_the_overview_shows_the_layers_that_are_checked():
    """The picture's layers are those of import-linter's contract, and every box has its place."""
    from xml.etree import ElementTree as ET

    diagram = docs_module("flow_diagram")
    assert diagram.layers()[0].startswith("cli")
    assert diagram.layers()[-1] == "addresses, counted, errors, quoting"
    page = (DOCS / "design" / "overview.md").read_text(encoding="utf-8")
    for name in ", ".join(diagram.layers()).split(", "):
        assert f"`{name}`" in page, name
    picture = ET.fromstring(diagram.flow_diagram())
    assert picture.tag.endswith("svg")
    for box in diagram.BOXES:
        assert box.x + box.w <= diagram.WIDTH
        assert box.y + box.h <= diagram.HEIGHT
        assert len(box.lines) * 20 + 24 <= box.h


def test_every_module_of_the_package_stands_in_a_layer():
    """No module escapes the check that arrows run one way, save the launcher."""
    layered = set(", ".join(docs_module("flow_diagram").layers()).split(", "))
    package = ROOT / "coordeval"
    there = {path.stem for path in package.glob("*.py")}
    there |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert there - {"__init__", "__main__"} == layered


def test_every_command_and_option_in_the_readme_exists():
    """The README shows only commands and options that --help knows."""
    blocks = blocks_of(ROOT / "README.md")
    lines = [
        line
        for block in blocks
        for line in block.text.splitlines()
        if line.startswith("coordeval ")
    ]
    assert len(lines) >= 8
    for line in lines:
        words = line.split()[1:]
        verb = words[:2] if words[0] == "data" else words[:1]
        done = run_forked(*verb, "--help")
        assert done.returncode == 0, line
        for option in (word for word in words if word.startswith("--")):
            assert option in done.stdout, line
