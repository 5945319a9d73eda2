"""Which prompt and which class list an option stands for, given the dataset's classes or none."""

import pytest

from coordeval.data.class_list import choose_classes
from coordeval.data.prompt_choice import choose_prompt
from coordeval.data.prompts import default_prompt
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import dialect_named
from coordeval.records import Category

DIALECT = dialect_named("coordjson")
CLASSES = [Category(id=2, name="cat"), Category(id=1, name="red car"), Category(id=3, name="cat")]


def test_a_prompt_is_open_unless_it_is_asked_to_name_the_classes():
    """Nothing and `open` are the same; `closed` names the classes; a prompt stays what it is."""
    closed = choose_prompt("closed", DIALECT, CLASSES)
    assert "red car" in closed.user
    for categories in (None, CLASSES):
        opened = choose_prompt(None, DIALECT, categories)
        assert (
            opened == choose_prompt("open", DIALECT, categories) == default_prompt(dialect=DIALECT)
        )
        assert choose_prompt(closed, DIALECT, categories) is closed


@pytest.mark.parametrize("categories", [None, []])
def test_a_class_list_that_is_not_there_is_said(categories):
    """`closed` and `dataset` need the dataset's list; without an option none is needed."""
    with pytest.raises(ConfigError, match="--prompt closed: the data has no class list"):
        choose_prompt("closed", DIALECT, categories)
    with pytest.raises(ConfigError, match="--classes dataset: the data has no class list"):
        choose_classes("dataset", categories)
    assert choose_classes(None, categories) is None


def test_the_datasets_own_classes_are_listed_once_each(tmp_path):
    """In the dataset's order; a file of names stands for itself."""
    assert choose_classes("dataset", CLASSES) == ("cat", "red car")
    (tmp_path / "names.txt").write_text("dog\n\ndog\nbird\n", encoding="utf-8")
    assert choose_classes(str(tmp_path / "names.txt"), CLASSES) == ("dog", "bird")
