"""Version, changelog and what stands beside the code agree."""

import re
import tomllib
from importlib.metadata import version

from page_blocks import DOCS, ROOT

import coordeval

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^## (\d+\.\d+\.\d+)(?: \((unreleased|\d{4}-\d\d-\d\d)\))?$", re.MULTILINE)


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_changelog_begins_with_the_version_of_the_package():
    """The newest entry is this version, each has a date or is unreleased, newest first."""
    entries = HEADING.findall(CHANGELOG)
    assert len(entries) == len(re.findall(r"^## ", CHANGELOG, re.MULTILINE))
    assert entries[0][0] == coordeval.__version__
    numbers = [tuple(map(int, name.split("."))) for name, _ in entries]
    assert numbers == sorted(set(numbers), reverse=True)
    assert all(date for _, date in entries)
    assert all(date != "unreleased" for _, date in entries[1:])


def test_the_installed_version_is_that_of_the_code():
    """What pip says is what the package says."""
    assert version("coordeval") == coordeval.__version__


def test_entries_are_sentences():
    """Each entry of the changelog is a line for users that ends as a sentence does."""
    entries = re.split(r"^- ", CHANGELOG.split("## ", 1)[1], flags=re.MULTILINE)[1:]
    assert entries
    assert not [
        entry for entry in entries if not re.search(r"[.`)]\s*(?:\n## |\Z|$)", entry.strip())
    ]


def test_every_extra_says_why_it_is_there():
    """docs/design/dependencies.md names each extra, and each package of the base install."""
    text = (DOCS / "design" / "dependencies.md").read_text(encoding="utf-8")
    project = pyproject()["project"]
    for extra in project["optional-dependencies"]:
        assert f"`{extra}`" in text, extra
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=!]", requirement)[0]
        assert name in text, name


def test_the_pins_are_within_the_ranges():
    """constraints.txt pins every package that pyproject names for the tests, inside its range."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line and line[0] != "#")
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["docs"], *extras["hf"]]
    for text in wanted:
        requirement = Requirement(text)
        if requirement.name == "coordeval":
            continue
        pinned = pins.get(requirement.name.lower())
        assert pinned, requirement.name
        assert pinned in requirement.specifier, text
