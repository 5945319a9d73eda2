"""Promises about decode-time control with Hugging Face, on the fixture checkpoints and on noise."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from coordeval.data.dataset import open_dataset  # noqa: E402
from coordeval.data.prompts import default_prompt  # noqa: E402
from coordeval.decoding import masking  # noqa: E402
from coordeval.decoding.guard import replay_guard  # noqa: E402
from coordeval.decoding.settings import ConstraintSettings, GuardSettings  # noqa: E402
from coordeval.decoding.token_table import TokenTable  # noqa: E402
from coordeval.engines.base import DecodeSettings  # noqa: E402
from coordeval.engines.checkpoint import resolve_checkpoint  # noqa: E402
from coordeval.engines.hf import HfEngine  # noqa: E402
from coordeval.engines.hf_loading import load_model, load_reader  # noqa: E402
from coordeval.engines.hf_text import decode_verbatim  # noqa: E402
from coordeval.engines.runner import make_requests  # noqa: E402
from coordeval.errors import CheckpointError, ConfigError  # noqa: E402
from coordeval.parsers import dialect_named, parse  # noqa: E402

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parents[2] / "fixtures"
CHECKPOINTS = ("ckpt-300", "ckpt-2400", "shapes-final")
PROMPT = default_prompt(dialect=dialect_named("coordjson"))
COORDS, GRAMMAR = ConstraintSettings(mode="coords"), ConstraintSettings(mode="grammar")
CLOSED = ConstraintSettings(mode="grammar", class_names=("red circle", "第九"))
MARK, STOP = GuardSettings(mode="mark"), GuardSettings(mode="stop")
FREE = DecodeSettings(max_new_tokens=256)


@pytest.fixture(scope="module")
def loaded(checkpoint_dir):
    """(model, reader) by name: the fixture checkpoints, and one with random weights."""
    made = {}

    def load(name):
        if name not in made:
            folder = checkpoint_dir if name == "random" else FIXTURES / name
            checkpoint = resolve_checkpoint(str(folder))
            model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
            made[name] = model, load_reader(checkpoint)
        return made[name]

    return load


@pytest.fixture(scope="module")
def scenes():
    return list(open_dataset(FIXTURES / "scenes" / "heldout.jsonl"))


@pytest.fixture(scope="module")
def engine(loaded):
    """Makes engines around a checkpoint by name."""

    def make(name, decode, **options):
        model, reader = loaded(name)
        arguments = {"reader": reader, "prompt": PROMPT, "dtype": "fp32", "batch_size": 32}
        return HfEngine(load=lambda: model, decode=decode, **(arguments | options))

    return make


@pytest.fixture(scope="module")
def roll(engine):
    """Rollouts by (id, sample index)."""

    def run(name, decode, samples, **options):
        batches = engine(name, decode, **options).generate(make_requests(samples, decode))
        return {(line.id, line.sample_index): line for batch in batches for line in batch}

    return run


@pytest.fixture(scope="module")
def free(roll, scenes):
    """Free greedy rollouts of a fixture checkpoint, made once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = roll(name, FREE, scenes)
        return made[name]

    return get


@pytest.fixture(scope="module")
def stopped(roll, scenes):
    """The degraded checkpoint's rollouts under a guard that stops, made once."""
    return roll("ckpt-2400", dataclasses.replace(FREE, guard=STOP), scenes)


def drops(rollouts):
    found = Counter()
    for rollout in rollouts.values():
        found.update(parse(rollout.text).dropped_by_reason)
    return found


def same(one, other, *, ignore=("seconds",)):
    """Equal in every field; log-probabilities to rounding."""
    assert one.keys() == other.keys()
    for key, rollout in one.items():
        mine, theirs = dataclasses.asdict(rollout), dataclasses.asdict(other[key])
        for name in (*ignore, "token_logprobs", "slots"):
            mine.pop(name), theirs.pop(name)
        assert mine == theirs
        assert rollout.token_logprobs == pytest.approx(other[key].token_logprobs, abs=1e-4)
        assert (rollout.slots is None) == (other[key].slots is None)
        for ours, others in zip(rollout.slots or (), other[key].slots or (), strict=True):
            assert ours[:6] == others[:6]
            assert ours.coord_mass == pytest.approx(others.coord_mass, abs=1e-4)
            assert ours.entropy == pytest.approx(others.entropy, abs=1e-3)


@pytest.mark.parametrize("constraint", [COORDS, GRAMMAR], ids=lambda c: c.mode)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_constrained_greedy_equals_free_greedy_where_that_conforms(
    roll, free, scenes, name, constraint
):
    """Token for token, with the same raw log-probabilities, wherever nothing was wrong."""
    constrained = roll(name, dataclasses.replace(FREE, constraint=constraint), scenes)
    conforming = {
        key: rollout
        for key, rollout in free(name).items()
        if parse(rollout.text).conforming and rollout.finish_reason == "stop"
    }
    assert len(conforming) >= 30
    same(conforming, {key: constrained[key] for key in conforming})
    if name == "ckpt-2400":
        assert drops(free(name))["wrong_arity"] > 10
        assert not drops(constrained)["wrong_arity"]


@pytest.mark.parametrize("name", ["ckpt-2400", "random"])
@pytest.mark.parametrize(
    "constraint",
    [COORDS, GRAMMAR, dataclasses.replace(CLOSED, sorted_objects=True, max_objects=3)],
    ids=["coords", "grammar", "sorted"],
)
def test_noise_at_a_high_temperature_conforms(roll, image_samples, name, constraint):
    """Whatever the weights and the image: a grammar leaves only a cut last record to drop."""
    decode = DecodeSettings(
        max_new_tokens=160, temperature=1.3, samples=3, seed=1, constraint=constraint
    )
    rollouts = roll(name, decode, image_samples)
    dropped = drops(rollouts)
    assert not dropped["wrong_arity"]
    for rollout in rollouts.values():
        assert rollout.finish_reason in {"stop", "length"}
        assert rollout.error is None
        assert all(math.isfinite(value) for value in rollout.token_logprobs)
        parsed = parse(rollout.text)
        if constraint.mode == "coords":
            continue
        # Cut inside a description that holds `}]`, a record looks as if its quote were missing.
        assert len(parsed.drops) <= (rollout.finish_reason == "length")
        for drop in parsed.drops:
            assert drop == parsed.records[-1]
            assert "truncated_record" in drop or "unclosed_string" in drop
        assert parsed.conforming == (rollout.finish_reason == "stop")
        if constraint.class_names:
            assert 0 < parsed.objects_valid <= 3 or rollout.finish_reason == "stop"
            assert {record.desc for record in parsed.objects} <= set(constraint.class_names)


@pytest.mark.parametrize("name", ["ckpt-2400", "random"])
def test_results_do_not_depend_on_the_batch(roll, scenes, image_samples, name):
    """Under constraint, guard and telemetry at once, greedy and sampled rows mixed in a batch."""
    decode = DecodeSettings(
        max_new_tokens=100,
        samples=2,
        sample_temperature=1.1,
        top_p=0.95,
        repetition_penalty=1.05,
        constraint=COORDS if name == "ckpt-2400" else CLOSED,
        guard=STOP,
        telemetry=True,
    )
    samples = scenes[:5] if name == "ckpt-2400" else image_samples
    alone = roll(name, decode, samples, batch_size=1)
    same(alone, roll(name, decode, samples, batch_size=32))
    same(alone, roll(name, decode, samples[::-1], batch_size=3))
    assert any(rollout.slots for rollout in alone.values())


def test_the_headline_is_greedy_whatever_stands_beside_it(roll, free, scenes):
    """Sample 0 of K is the greedy rollout, the others are drawn and differ."""
    decode = dataclasses.replace(FREE, samples=3, sample_temperature=0.9)
    rollouts = roll("ckpt-300", decode, scenes[:6])
    plain = {sample.id: free("ckpt-300")[sample.id, 0] for sample in scenes[:6]}
    same(
        {(name, 0): line for name, line in plain.items()},
        {k: v for k, v in rollouts.items() if not k[1]},
    )
    drawn = [
        rollouts[sample.id, 1].token_ids != plain[sample.id].token_ids for sample in scenes[:6]
    ]
    assert any(drawn)
    as_before = dataclasses.replace(FREE, samples=3, temperature=0.9)
    others = roll("ckpt-300", as_before, scenes[:6])
    same({k: v for k, v in rollouts.items() if k[1]}, {k: v for k, v in others.items() if k[1]})


def test_stop_ends_loops_and_keeps_what_was_valid(stopped, free, loaded):
    """A looping row ends where the guard fires; its text is a prefix, its valid records stay."""
    _, reader = loaded("ckpt-2400")
    table = TokenTable.from_tokenizer(reader.tokenizer, end_ids=reader.end_ids)
    saved = 0
    for key, rollout in stopped.items():
        whole = free("ckpt-2400")[key]
        verdict = replay_guard(STOP, dialect_named("coordjson"), whole.token_ids, table)
        if verdict is None:
            same({key: rollout}, {key: whole})
            continue
        assert rollout.finish_reason == "loop_guard"
        assert rollout.token_ids == whole.token_ids[: verdict.at]
        assert rollout.token_logprobs == pytest.approx(whole.token_logprobs[: verdict.at], abs=1e-4)
        assert rollout.text == decode_verbatim(rollout.token_ids, reader.tokenizer)
        assert not reader.end_ids & set(rollout.token_ids)
        assert rollout.guard == verdict.to_json(256 - verdict.at)
        assert rollout.error is None
        records = parse(rollout.text).objects
        assert [r[2:5] for r in records] == [
            r[2:5] for r in parse(whole.text).objects[: len(records)]
        ]
        distinct = {r[2:5] for r in parse(whole.text).objects}
        assert {r[2:5] for r in records} == distinct
        saved += rollout.guard["tokens_saved"]
    assert sum(rollout.finish_reason == "loop_guard" for rollout in stopped.values()) >= 2
    assert saved > 200


def test_mark_changes_nothing_but_the_note(roll, free, stopped, scenes):
    """Marked rollouts are the free ones; where stop would have ended them the guard is noted."""
    marked = roll("ckpt-2400", dataclasses.replace(FREE, guard=MARK), scenes)
    same(free("ckpt-2400"), marked, ignore=("seconds", "guard"))
    for key, rollout in marked.items():
        assert (rollout.guard is None) == (stopped[key].guard is None)
        if rollout.guard is not None:
            assert rollout.guard == stopped[key].guard | {"tokens_saved": 0}
    assert any(rollout.guard for rollout in marked.values())


def test_a_guard_that_fires_on_the_last_token_still_says_so(roll, stopped, scenes):
    """The verdict is a function of the tokens alone: also where the limit ends the row anyway."""
    key, looped = next((k, r) for k, r in stopped.items() if r.finish_reason == "loop_guard")
    sample = next(sample for sample in scenes if sample.id == key[0])
    limit = len(looped.token_ids)
    [cut] = roll("ckpt-2400", DecodeSettings(max_new_tokens=limit, guard=STOP), [sample]).values()
    assert (cut.finish_reason, cut.token_ids) == ("loop_guard", looped.token_ids)
    assert cut.guard == looped.guard | {"tokens_saved": 0}
    shorter = DecodeSettings(max_new_tokens=limit - 1, guard=STOP)
    [before] = roll("ckpt-2400", shorter, [sample]).values()
    assert (before.finish_reason, before.guard) == ("length", None)


class FailingMasker(masking.LogitMasker):
    """Fails as a broken constraint would, where a first box is wider than half the image."""

    how = "raise"

    def __call__(self, logits, states, **options):
        masked = super().__call__(logits, states, **options)
        for row, state in enumerate(states):
            if state is None or state.bins() is None or len(state._values) != 3:
                continue
            if state._values[2] - state._values[0] > 300:
                if self.how == "raise":
                    raise IndexError("no such state")
                masked[row] = -torch.inf
        return masked


@pytest.mark.parametrize("how", ["raise", "nothing"])
def test_a_constraint_that_fails_costs_only_its_row(monkeypatch, roll, free, scenes, how):
    """The row ends as grammar_error with a reason and keeps its text; the others are untouched."""
    decode = dataclasses.replace(FREE, constraint=GRAMMAR)
    whole = free("shapes-final")
    monkeypatch.setattr(FailingMasker, "how", how)
    monkeypatch.setattr(masking, "LogitMasker", FailingMasker)
    broken = roll("shapes-final", decode, scenes[:6], batch_size=6)
    failed = [key for key, line in broken.items() if line.finish_reason == "grammar_error"]
    assert 0 < len(failed) < 6
    for key, rollout in broken.items():
        if key not in failed:
            same({key: whole[key]}, {key: rollout})
            continue
        assert "\n" not in rollout.error
        assert "constraint" in rollout.error
        assert ("no such state" in rollout.error) == (how == "raise")
        count = len(rollout.token_ids)
        assert 0 < count < len(whole[key].token_ids)
        assert rollout.token_ids == whole[key].token_ids[:count]
        assert rollout.text.endswith(", ")
        assert whole[key].text.startswith(rollout.text)
        assert len(rollout.token_logprobs) == count


def test_broken_logits_are_an_error_also_under_control(engine, loaded, scenes):
    """NaN from the model is the model's fault, not the grammar's."""
    model, _ = loaded("ckpt-300")
    decode = dataclasses.replace(FREE, constraint=GRAMMAR, guard=STOP, telemetry=True)
    weight = model.lm_head.weight
    stored = weight.data.clone()
    try:
        weight.data[5] = math.nan
        [[rollout]] = engine("ckpt-300", decode).generate(make_requests(scenes[:1], decode))
    finally:
        weight.data.copy_(stored)
    assert rollout.finish_reason == "error"
    assert "not numbers" in rollout.error
    assert rollout.slots is None


def test_a_model_of_another_width_than_its_file_says_is_followed(loaded, engine, scenes):
    """In training the model in memory decides how wide the masks are."""
    model, reader = loaded("ckpt-300")
    decode = dataclasses.replace(FREE, constraint=GRAMMAR, guard=STOP, telemetry=True)
    requests = make_requests(scenes[:2], decode)
    width = model.config.get_text_config().vocab_size
    assert reader.vocab_size == width
    [plain] = engine("ckpt-300", decode).generate(requests)
    wrong = dataclasses.replace(reader, vocab_size=width + 64)
    [followed] = engine("ckpt-300", decode, reader=wrong).generate(requests)
    unknown = dataclasses.replace(reader, vocab_size=None)
    [guessed] = engine("ckpt-300", decode, reader=unknown).generate(requests)
    for other in (followed, guessed):
        assert [line.token_ids for line in other] == [line.token_ids for line in plain]
        assert [line.slots for line in other] == [line.slots for line in plain]


def test_what_cannot_be_controlled_is_refused_before_weights_are_read(loaded):
    """A tokenizer without coordinate tokens, and a dialect without them, are clear errors."""
    import copy

    _, reader = loaded("ckpt-300")
    loads = []
    arguments = {"load": lambda: loads.append(1), "prompt": PROMPT, "dtype": "fp32"}
    for changes in ({"constraint": COORDS}, {"telemetry": True}):
        with pytest.raises(ConfigError, match="coordjson-pixels"):
            HfEngine(
                reader=reader,
                decode=dataclasses.replace(FREE, **changes),
                dialect=dialect_named("coordjson-pixels"),
                **arguments,
            )
    lacking = copy.copy(reader.tokenizer)
    lacking.get_vocab = lambda: {
        token: i for token, i in reader.tokenizer.get_vocab().items() if token != "<|coord_7|>"
    }
    poor = dataclasses.replace(reader, tokenizer=lacking)
    for decode in (
        dataclasses.replace(FREE, constraint=GRAMMAR),
        dataclasses.replace(FREE, telemetry=True),
    ):
        with pytest.raises(CheckpointError, match=r"coord_7.*vocab expand"):
            HfEngine(reader=poor, decode=decode, **arguments)
    HfEngine(reader=poor, decode=FREE, **arguments)
    assert loads == []
