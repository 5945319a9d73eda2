"""The logits processor alone: batches that change shape, requests that come back, bad arguments."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from coordeval.decoding.control import ControlPlan
from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.decoding.token_table import TokenTable
from coordeval.engines.control_request import ControlRequest, Handshake
from coordeval.engines.vllm_processor import CoordevalProcessor
from coordeval.parsers.dialects import dialect_named

pytestmark = pytest.mark.vllm

DIALECT = dialect_named("coordjson")
GRAMMAR = ConstraintSettings(mode="grammar", geometries=("bbox_2d",), max_objects=2)
COORDS = ConstraintSettings(mode="coords")
STOP = GuardSettings(mode="stop", near_repeats=2, near_iou=0.1, exact_repeats=2)
OFF = GuardSettings()
SWAP, ONE_WAY = MoveDirectionality.SWAP, MoveDirectionality.UNIDIRECTIONAL


@pytest.fixture(scope="module")
def reader(benches):
    return benches("ckpt-2400").reader


@pytest.fixture
def processor(benches, reader):
    config = SimpleNamespace(
        tokenizer=str(benches("ckpt-2400").checkpoint.path),
        tokenizer_revision=None,
        trust_remote_code=False,
        get_vocab_size=lambda: reader.vocab_size,
    )
    return CoordevalProcessor(SimpleNamespace(model_config=config), torch.device("cpu"), False)


@pytest.fixture(scope="module")
def table(reader):
    return TokenTable.from_tokenizer(
        reader.tokenizer, end_ids=reader.end_ids, vocab_size=reader.vocab_size
    )


def control_text(reader, constraint=GRAMMAR, guard=OFF):
    return ControlRequest(
        constraint=constraint, guard=guard, dialect=DIALECT, end_ids=tuple(reader.end_ids)
    ).to_text()


def params(text):
    return SamplingParams(extra_args=None if text is None else {"coordeval": text})


def update(size, *, added=(), removed=(), moved=()):
    return BatchUpdate(batch_size=size, removed=removed, added=added, moved=moved)


def looping_ids(reader):
    """An answer that writes one record thirty times."""
    record = '{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_30|>, <|coord_40|>]}'
    text = '{"objects": [' + ", ".join([record] * 30)
    return reader.tokenizer(text, add_special_tokens=False)["input_ids"]


def allowed(processor, size, width):
    """Which tokens are left, (B, V), from flat logits."""
    return torch.isfinite(processor.apply(torch.zeros(size, width))).numpy()


def test_rows_without_our_arguments_stay_as_they_are(processor, reader):
    """Other requests of the same batch keep every logit, bit for bit."""
    processor.update_state(
        update(2, added=[(0, params(None), [1], []), (1, params(control_text(reader)), [1], [])])
    )
    logits = torch.randn(2, reader.vocab_size, generator=torch.Generator().manual_seed(0))
    out = processor.apply(logits.clone())
    assert torch.equal(out[0], logits[0])
    assert not torch.equal(out[1], logits[1])
    kept = torch.isfinite(out[1])
    assert torch.equal(out[1][kept], logits[1][kept])


KINDS = [(GRAMMAR, OFF), (COORDS, OFF), (GRAMMAR, STOP), (ConstraintSettings(), STOP), None]
LOOPS = 3  # the kind of request that writes one record over and over


class Traffic:
    """Random arrivals, ends, preemptions, moves and swaps, and who is where in the batch.

    A row is a kind and its written tokens; as in vLLM, the last row fills the gap that one leaves.
    """

    def __init__(self, reader):
        self.reader = reader
        self.draw = random.Random(1)
        self.rows = []
        self.paused = []
        self.resumed = 0

    def change(self):
        """What vLLM would tell the processor before the next step; None for no change."""
        added, removed, moved = [], [], []
        rows, draw = self.rows, self.draw
        if rows and draw.random() < 0.1:
            index, last = draw.randrange(len(rows)), len(rows) - 1
            removed.append(index)
            if draw.random() < 0.5:
                self.paused.append(rows[index])
            if index != last:
                moved.append((last, index, ONE_WAY))
                rows[index] = rows[last]
            rows.pop()
        elif len(rows) < 6:
            rows.append(self.arriving())
            added.append(self.entry(len(rows) - 1))
        if len(rows) > 1 and draw.random() < 0.3:
            one, other = draw.sample(range(len(rows)), 2)
            moved.append((one, other, SWAP))
            rows[one], rows[other] = rows[other], rows[one]
        if not (added or removed or moved):
            return None
        return update(len(rows), added=added, removed=removed, moved=moved)

    def arriving(self):
        if self.paused and self.draw.random() < 0.5:
            row = self.paused.pop()
            self.resumed += len(row[1]) > 3
            return row
        return self.draw.randrange(len(KINDS)), []

    def entry(self, index):
        kind, tokens = self.rows[index]
        text = None if KINDS[kind] is None else control_text(self.reader, *KINDS[kind])
        return index, params(text), [1], tokens

    def write(self, left, looping):
        """Every row writes one more token of those that are left."""
        for index, (kind, tokens) in enumerate(self.rows):
            choices = left[index].nonzero()[0].tolist()
            if kind == LOOPS and len(choices) > 1:
                choices = [looping[len(tokens)]]
            going_on = [i for i in choices if i not in self.reader.end_ids]
            tokens.append(self.draw.choice(going_on[:40] or choices))


def check_row(left, control, end_ids):
    """One row against a plan replayed from nothing; True where the end is forced."""
    if control is None or (control.state is None and not control.must_end):
        assert left.all()
    elif not control.must_end:
        assert (left == control.state.allowed()).all()
    else:
        assert left.sum() == 1
        assert left.argmax() in end_ids
    return control is not None and control.must_end


def test_a_changing_batch_is_followed(processor, reader, table):
    """Whoever comes, goes, moves or is preempted, every row keeps its own place."""
    plans = [kind and ControlPlan(kind[0], kind[1], DIALECT, table) for kind in KINDS]
    traffic, looping = Traffic(reader), looping_ids(reader)
    forced = 0
    for _ in range(500):
        processor.update_state(traffic.change())
        if traffic.rows:
            left = allowed(processor, len(traffic.rows), reader.vocab_size)
            for index, (kind, tokens) in enumerate(traffic.rows):
                plan = plans[kind]
                control = None if plan is None else plan.start(tokens)
                forced += check_row(left[index], control, reader.end_ids)
            traffic.write(left, looping)
    assert traffic.resumed > 5
    assert forced


def test_a_looping_row_is_forced_to_end(processor, reader, table):
    """Once the guard stops a row, only an end token is left; its neighbours go on."""
    ids = looping_ids(reader)
    stop = control_text(reader, ConstraintSettings(), STOP)
    looping, honest = [], []
    processor.update_state(
        update(2, added=[(0, params(stop), [1], looping), (1, params(stop), [1], honest)])
    )
    forced_at = None
    for position, token_id in enumerate(ids):
        left = allowed(processor, 2, reader.vocab_size)
        assert left[1].all()
        if not left[0].all():
            forced_at = position
            assert left[0].nonzero()[0].tolist() == [min(reader.end_ids)]
            break
        looping.append(token_id)
        honest.append(ids[position % 20])
    verdict = ControlPlan(ConstraintSettings(), STOP, DIALECT, table).start(ids).verdict
    assert verdict is not None and forced_at == verdict.at


def test_a_handshake_forces_its_token(processor, reader):
    """A client finds out that the processor is there: exactly the token it asked for comes."""
    processor.update_state(
        update(1, added=[(0, params(Handshake(token_id=77).to_text()), [1], [])])
    )
    assert allowed(processor, 1, reader.vocab_size)[0].nonzero()[0].tolist() == [77]


def test_arguments_may_come_as_a_mapping(processor, reader):
    """In process a dict will do; over HTTP it is one string."""
    text = control_text(reader)
    processor.update_state(
        update(2, added=[(0, params(json.loads(text)), [1], []), (1, params(text), [1], [])])
    )
    left = allowed(processor, 2, reader.vocab_size)
    assert (left[0] == left[1]).all() and not left[0].all()


BAD = {
    "not JSON": "{",
    "a list": "[1]",
    "unknown key": '{"guard": {}, "end_ids": [1], "loop": 1}',
    "unknown setting": '{"guard": {"speed": 1}, "end_ids": [1]}',
    "bad mode": '{"constraint": {"mode": "strict"}, "end_ids": [1]}',
    "bad value": '{"guard": {"mode": "stop", "near_iou": "high"}, "end_ids": [1]}',
    "constraint no object": '{"constraint": 5, "end_ids": [1]}',
    "no end": '{"constraint": {"mode": "coords"}}',
    "end no list": '{"end_ids": 5}',
    "end no id": '{"end_ids": [true]}',
    "handshake no id": '{"handshake": "x"}',
    "handshake with more": '{"handshake": 1, "guard": {}}',
    "unknown dialect field": '{"dialect": {"name": "x", "colour": 1}, "end_ids": [1]}',
    "a number": 5,
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused_at_the_door(raw):
    """A clear ValueError for the client, before anything reaches the engine."""
    with pytest.raises(ValueError, match=r"^coordeval: "):
        CoordevalProcessor.validate_params(params(raw))


def test_good_arguments_pass(reader):
    """What `ControlRequest` writes is taken, and so is a request without our arguments."""
    CoordevalProcessor.validate_params(params(control_text(reader)))
    CoordevalProcessor.validate_params(params(None))
    CoordevalProcessor.validate_params(SamplingParams(extra_args={"other": 1}))


def test_settings_that_fit_no_constraint_end_the_request_alone(processor, reader):
    """A dialect without coordinate tokens cannot be constrained: that row ends, the engine lives."""
    bins = ControlRequest(
        constraint=GRAMMAR,
        guard=OFF,
        dialect=dialect_named("coordjson-pixels"),
        end_ids=tuple(reader.end_ids),
    ).to_text()
    processor.update_state(
        update(2, added=[(0, params(bins), [1], []), (1, params(None), [1], [])])
    )
    left = allowed(processor, 2, reader.vocab_size)
    assert left[0].nonzero()[0].tolist() == [min(reader.end_ids)]
    assert left[1].all()


def test_unfilled_tokens_are_never_skipped(processor, reader):
    """Where vLLM has not filled in a token yet, control stops loudly instead of guessing."""
    processor.update_state(update(1, added=[(0, params(control_text(reader)), [1], [-1])]))
    with pytest.raises(RuntimeError, match="async"):
        processor.apply(torch.zeros(1, reader.vocab_size))
