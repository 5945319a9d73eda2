"""The exception tree: what is drawn is what is there."""

import re

import pytest

from coordeval import errors

# A branch's depth by its drawing, its name, its exit code.
_BRANCH = re.compile(r"^((?:\|   )*)(?:[|`]-- )?(\w+) +(\d) ", re.MULTILINE)


def _below(kind, depth=0):
    yield depth, kind.__name__, kind.exit_code
    for child in kind.__subclasses__():
        if child.__module__.startswith("coordeval."):
            yield from _below(child, depth + 1)


def test_the_drawn_tree_names_every_exception_and_its_exit_code():
    """The module's docstring is the tree of all user faults, those of the training included."""
    pytest.importorskip("torch")
    from coordeval.engines import ray_head
    from coordeval.training.loop import checkpoints, lost_worker, nonfinite, train_log

    assert all((ray_head, checkpoints, lost_worker, nonfinite, train_log))
    drawn = [
        (len(bars) // 4 + (name != "CoordevalError"), name, int(code))
        for bars, name, code in _BRANCH.findall(errors.__doc__)
    ]
    assert sorted(drawn) == sorted(_below(errors.CoordevalError))


def test_no_message_is_longer_than_a_page_and_its_ends_stay():
    """A long text loses its middle: the place stands first, the remedy last."""
    short = errors.DataError("x.json: " + "y" * 1400 + ": mend it")
    assert str(short) == short.args[0]
    long = errors.DataError("x.json: " + "y" * 10**6 + ": mend it")
    assert len(str(long)) == 1500
    assert str(long).startswith("x.json: y")
    assert " ... " in str(long)
    assert str(long).endswith("y: mend it")
