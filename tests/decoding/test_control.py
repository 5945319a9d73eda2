"""Control of one sequence: what it follows, when it must end, and what it costs nobody else."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from coordeval.data.canonical import render_text
from coordeval.decoding.control import ControlPlan
from coordeval.decoding.guard import replay_guard
from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.errors import ConfigError
from coordeval.parsers import dialect_named
from coordeval.training.tiny.model import tiny_tokenizer

TOKENIZER = tiny_tokenizer(["red circle"])
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
TABLE = TokenTable.from_tokenizer(TOKENIZER, end_ids={END})
COORDJSON = dialect_named("coordjson")
FREE, GRAMMAR = ConstraintSettings(), ConstraintSettings(mode="grammar")
OFF, MARK, STOP = (GuardSettings(mode=mode) for mode in ("off", "mark", "stop"))
LOOP = render_text([("cat", "bbox_2d", (1, 2, 30, 40))] * 12, COORDJSON)


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def plan(constraint=FREE, guard=OFF, dialect=COORDJSON):
    return ControlPlan(constraint, guard, dialect, TABLE)


@pytest.mark.parametrize(
    ("constraint", "guard", "active"),
    [(FREE, OFF, False), (GRAMMAR, OFF, True), (FREE, MARK, True), (FREE, STOP, True)],
)
def test_a_plan_is_active_where_it_asks_for_something(constraint, guard, active):
    """Without constraint and guard no sequence needs to be followed."""
    assert plan(constraint, guard).active is active


def test_a_conforming_answer_runs_through():
    """Every token of a canonical answer is accepted, the end token closes it, padding is ignored."""
    text = render_text([("cat", "bbox_2d", (1, 2, 30, 40))], COORDJSON)
    control = plan(GRAMMAR, STOP).start()
    for token_id in ids_of(text):
        assert control.state.allowed()[token_id]
        control.push(token_id)
        assert not control.must_end
    control.push(END)
    for token_id in (END, 0, 5):
        control.push(token_id)
    assert (control.finished, control.error, control.verdict) == (True, None, None)
    assert control.written == len(ids_of(text))


def test_a_token_that_is_not_allowed_is_an_error_and_ends():
    """The constraint is given up with a reason; the refused token stays counted, for it stands."""
    control = plan(GRAMMAR).start()
    for token_id in ids_of('{"objects": [{"desc": "cat", "bbox_2d": [7'):
        control.push(token_id)
        if control.must_end:
            break
    assert control.must_end
    assert "not allowed" in control.error
    assert control.state is None
    written = control.written
    control.push(END)
    assert control.finished
    assert not control.must_end
    assert control.written == written


def test_an_end_token_that_is_not_allowed_is_an_error_without_a_token():
    """What was written stays what it was."""
    control = plan(GRAMMAR).start(ids_of('{"objects": ['))
    control.push(END)
    assert control.error
    assert control.written == len(ids_of('{"objects": ['))


def test_stop_forces_the_end_where_the_guard_fires():
    """From the verdict on only the end token may come, and it is no part of the answer."""
    control = plan(guard=STOP).start()
    ids = ids_of(LOOP)
    for token_id in ids:
        control.push(token_id)
        if control.must_end:
            break
    assert control.stopped
    assert control.verdict == replay_guard(STOP, COORDJSON, ids, TABLE)
    assert control.written == control.verdict.at < len(ids)
    control.push(END)
    assert (control.finished, control.must_end) == (True, False)
    assert control.written == control.verdict.at


def test_mark_forces_nothing():
    """The verdict is the same, but the sequence goes on to its own end."""
    ids = ids_of(LOOP)
    control = plan(guard=MARK).start(ids)
    assert control.verdict == replay_guard(MARK, COORDJSON, ids, TABLE)
    assert not control.stopped
    assert not control.must_end
    assert control.written == len(ids)


def test_going_on_is_the_same_as_having_followed_from_the_start():
    """A control started on written tokens stands where one stands that saw them come."""
    ids = ids_of(LOOP)[:40]
    whole = plan(GRAMMAR, STOP).start()
    for token_id in ids:
        whole.push(token_id)
    later = plan(GRAMMAR, STOP).start(ids)
    assert (later.state.allowed() == whole.state.allowed()).all()
    assert (later.written, later.verdict) == (whole.written, whole.verdict)


def test_failing_keeps_the_first_reason():
    """An engine may give a constraint up; what comes after does not hide why."""
    control = plan(GRAMMAR).start()
    control.fail("nothing is allowed")
    control.fail("something else")
    assert (control.error, control.must_end, control.state) == ("nothing is allowed", True, None)


def test_a_dialect_without_coordinate_tokens_cannot_be_constrained():
    """The refusal comes when the plan is made, before anything is decoded."""
    with pytest.raises(ConfigError):
        plan(GRAMMAR, dialect=dialect_named("coordjson-bins"))
