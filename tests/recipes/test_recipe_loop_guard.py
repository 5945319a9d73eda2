"""The loop guard on injected loops and recorded rollouts: tokens saved, F1 kept."""

import importlib
import sys
from pathlib import Path

import pytest
from forked_scripts import run_script

from coordeval.parsers import parse
from coordeval.runs import open_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recipe():
    """The recipe as a module."""
    sys.path.insert(0, str(ROOT / "recipes"))
    try:
        yield importlib.import_module("loop_guard")
    finally:
        sys.path.remove(str(ROOT / "recipes"))


@pytest.fixture(scope="module")
def tokens(recipe):
    """Tokenizer and token table of the fixture checkpoints."""
    return recipe.fixture_tokenizer()


@pytest.mark.parametrize("kind", ["exact", "block", "near", "cycle"])
def test_injected_loops_are_stopped_and_cost_no_object(recipe, tokens, kind):
    """Every scene with an object is stopped, every object before the loop is still found."""
    free = list(recipe.injected_rollouts(kind, tokens[0]))
    row = recipe.saving(kind, free, *tokens)
    assert row.stopped == sum(bool(rollout.gt) for rollout in free) >= 50
    assert row.saved > row.tokens / 4
    assert row.recall == (1.0, 1.0)
    if kind == "cycle":
        assert row.f1 == (1.0, 1.0)
    else:
        assert row.f1[1] > row.f1[0]


@pytest.mark.parametrize("kind", ["exact", "block", "near", "cycle"])
def test_a_cut_text_is_the_beginning_of_the_looping_one(recipe, tokens, kind):
    """The guard's cut is a prefix, saved tokens are the rest, and the verdict names the kind."""
    for rollout in recipe.injected_rollouts(kind, tokens[0]):
        cut = recipe.guarded(rollout, *tokens)
        if not rollout.gt:
            assert cut is rollout
            continue
        assert rollout.text.startswith(cut.text)
        assert rollout.token_ids[: len(cut.token_ids)] == cut.token_ids
        assert cut.guard["tokens_saved"] == recipe.BUDGET - len(cut.token_ids)
        assert cut.finish_reason == "loop_guard"
        one_object = kind == "block" and len(rollout.gt) == 1
        assert cut.guard["kind"] == ("exact" if one_object else kind)
        found = [record.values for record in parse(cut.text).objects]
        assert len(found) >= len(rollout.gt)


def test_guard_keeps_every_true_positive_of_the_recorded_runs(recipe, tokens):
    """Sound runs are untouched; degraded ones lose tokens and no recall."""
    for name in recipe.RECORDED:
        rollouts = list(open_run(ROOT / "fixtures" / "runs" / name).rollouts())
        row = recipe.saving(name, rollouts, *tokens)
        assert row.recall[0] == row.recall[1]
        assert row.f1[1] >= row.f1[0]
        if name in {"shapes-final", "ckpt-300"}:
            assert row.stopped == row.saved == 0
        if name == "ckpt-loops":
            assert row.stopped >= 16
            assert row.saved > row.tokens / 5


@pytest.mark.slow
def test_table_of_the_docs_is_what_the_recipe_prints():
    """docs/decoding.md shows the recipe's own output; mend it with the command that it names."""
    done = run_script(ROOT / "recipes" / "loop_guard.py", cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() in (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")
