"""What the tutorial and the how-tos show is what runs."""

import re
from pkgutil import resolve_name

import pytest
from page_blocks import DOCS, blocks_of, run_page

from coordeval.config import load_defaults
from coordeval.metrics.score import score_run
from coordeval.parsers.dialects import dialect_named
from coordeval.runs import open_run

PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
DECODES = {"tutorial", "own_trainer", "constrained_decoding"}
KINDS = {"sh", "python", "toml", "json", "yaml"}


def test_the_how_tos_are_there():
    """One page for each of the five jobs."""
    names = {page.stem for page in PAGES}
    assert names >= {"ci_gate", "own_trainer", "constrained_decoding", "new_dialect", "new_metric"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in DECODES else [])
        for page in PAGES
    ],
)
def test_every_block_of_a_page_runs(page, tmp_path):
    """Commands end with the exit code that is shown, scripts and tests pass, in their order."""
    ran = run_page(page, tmp_path)
    shown = [block for block in blocks_of(page) if block.kind in KINDS]
    assert ran
    assert sum(block.kind == "sh" for block in shown) <= len(ran)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_hides_in_a_block_that_is_not_run(page):
    """Blocks without a language hold installations alone, and name extras that exist."""
    from importlib.metadata import metadata

    extras = set(metadata("coordeval").get_all("Provides-Extra"))
    for block in blocks_of(page):
        if block.kind in KINDS:
            continue
        assert block.kind == "", page
        for line in block.text.splitlines():
            assert line.startswith("pip install "), line
            for named in re.findall(r"coordeval\[([\w,]+)\]", line):
                assert set(named.split(",")) <= extras


def test_the_names_that_others_build_on_are_there():
    """Every name of the Python page can be imported from where it says, and is documented."""
    page = (DOCS / "howto" / "python.md").read_text(encoding="utf-8")
    names = [
        name
        for cell in re.findall(r"^\| (`coordeval\..*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", cell)
    ]
    assert len(names) > 10
    for name in names:
        module, _, leaf = name.rpartition(".")
        assert resolve_name(name).__doc__, name
        assert leaf == "losses" or leaf in resolve_name(module).__all__, name


def test_what_the_dialect_page_says_of_its_answers_is_so(tmp_path):
    """The declared dialect reads the cat exactly and drops the dog for its three numbers."""
    run_page(DOCS / "howto" / "new_dialect.md", tmp_path)
    run = open_run(tmp_path / "answers.jsonl")
    metrics = score_run(run, dialect=dialect_named(str(tmp_path / "my.toml"))).metrics
    assert metrics["f1/0.95/tp"] == 1
    assert metrics["parse/detail/wrong_arity/too_few"] == 1
    assert metrics["parse/objects_found"] == 2


def test_the_defaults_file_of_the_tutorial_is_read(tmp_path):
    """Its coordeval.toml has known keys only, and says what the page says."""
    block = blocks_of(DOCS / "tutorial.md")[-1]
    assert (block.kind, block.file) == ("toml", "coordeval.toml")
    (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    defaults = load_defaults(tmp_path)
    assert defaults.data == tmp_path / "fixtures" / "scenes" / "heldout.jsonl"
    assert defaults.decode == {"max_new_tokens": 256}


def test_a_block_that_fails_is_noticed(tmp_path):
    """A wrong option, a wrong exit code and a script that raises each fail their page."""
    for number, text in enumerate(
        [
            "```sh\ncoordeval score --no-such-option\n```\n",
            "```sh\ntrue  # exit code 1\n```\n",
            "```python\nraise SystemExit(3)\n```\n",
            "```python\ndef test_it():\n    assert False\n```\n",
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        page = folder / "page.md"
        page.write_text(text, encoding="utf-8")
        with pytest.raises(AssertionError):
            run_page(page, folder)
