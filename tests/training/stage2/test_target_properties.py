"""What holds for every target: of real rollouts, broken dumps and any text at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from target_setup import (
    AWKWARD_NAMES,
    END_ID,
    TABLE,
    box,
    context,
    ids_of,
    rollout,
    sample,
    scenes,
)

from coordeval.coords import frame_named
from coordeval.data.canonical import sample_text
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.hf_loading import load_reader
from coordeval.errors import ConfigError
from coordeval.parsers import parse
from coordeval.parsers.dialects import dialect_named
from coordeval.records import Sample
from coordeval.runs import iter_rollouts
from coordeval.training.data.labels import COORDINATE, END, IGNORE, IGNORE_LABEL
from coordeval.training.data.positions import shifted
from coordeval.training.stage2.config import ChannelBConfig, MatchingConfig, TokenWeights
from coordeval.training.stage2.targets import TargetContext, TargetCounts, build_target

FIXTURES = Path(__file__).parents[3] / "fixtures"
RUNS = ["ckpt-300", "ckpt-2400", "ckpt-loops", "ckpt-polygons", "shapes-final"]
DUMPS = sorted(path.stem for path in (FIXTURES / "dumps").glob("*.jsonl"))
STYLES = [("clean", "append"), ("clean", "sorted"), ("prefix", "append")]
FRAME = frame_named("coordexp")


@pytest.fixture(scope="module")
def fixture_context():
    """The context of a fixture checkpoint."""
    reader = load_reader(resolve_checkpoint(str(FIXTURES / "ckpt-2400")))
    return TargetContext.for_reader(
        reader, dialect=dialect_named("coordjson"), frame=FRAME, config=ChannelBConfig()
    )


def styled(base, target, insertion, **config):
    return replace(base, config=ChannelBConfig(target=target, insertion=insertion, **config))


def sample_of(one):
    return Sample(id=one.id, image=one.id, width=one.width, height=one.height, objects=one.gt)


def assert_sound(target, own):
    """Shapes, labels, kinds, weights, boxes, unlikely tokens and counts fit together."""
    num = len(target.token_ids)
    ids = np.array(target.token_ids)
    assert target.labels_T.shape == target.kinds_T.shape == target.weights_T.shape == (num,)
    assert (target.labels_T.dtype, target.kinds_T.dtype) == (np.int64, np.uint8)
    assert target.weights_T.dtype == np.float32
    assert target.token_ids[-1] == target.labels_T[-1] == own.end_id
    assert target.kinds_T[-1] == END
    assert (target.kinds_T[:-1] != END).all()
    taught = target.labels_T != IGNORE_LABEL
    slots = target.kinds_T == COORDINATE
    assert ((target.kinds_T == IGNORE) == ~taught).all()
    bins = own.table.coords.bins_of
    assert ((bins(target.labels_T) >= 0) == slots).all()
    assert (bins(ids[slots]) >= 0).all()
    assert (target.labels_T[taught & ~slots] == ids[taught & ~slots]).all()
    assert ((target.weights_T > 0) == (taught & ~slots)).all()
    assert target.boxes_M4.shape[1:] == (4,)
    assert slots[target.boxes_M4].all()
    assert len(np.unique(target.boxes_M4)) == target.boxes_M4.size
    assert target.unlikely_U2.shape[1:] == (2,)
    pairs = [tuple(pair) for pair in target.unlikely_U2.tolist()]
    assert len(set(pairs)) == len(pairs)
    for position, token in pairs:
        assert token not in (target.labels_T[position], target.token_ids[position])
    assert_counts_add_up(target.counts, own)


def assert_counts_add_up(counts, own):
    """The identities that `TargetCounts` promises."""
    assert counts.found == (
        counts.matched
        + counts.false_positives
        + counts.duplicates
        + counts.on_crowd
        + counts.dropped
        + counts.unread
    )
    assert counts.annotated == counts.matched + counts.missed + counts.crowd + counts.degenerate
    if own.config.target == "clean":
        places = counts.unlikely + counts.unlikely_merged + counts.no_divergence
        assert counts.duplicates == places


def text_of(target, own):
    return b"".join(own.table.text_bytes(i) for i in target.token_ids[:-1]).decode(
        "utf-8", "replace"
    )


@pytest.mark.parametrize(("style", "insertion"), STYLES)
@pytest.mark.parametrize("run", RUNS)
def test_targets_of_recorded_rollouts(run, style, insertion, fixture_context):
    """Clean ones hold exactly the truth, prefix ones begin with the rollout's own ids."""
    own = styled(fixture_context, style, insertion)
    total = TargetCounts()
    for one in iter_rollouts(FIXTURES / "runs" / run / "rollouts.jsonl", FRAME):
        target = build_target(one, sample_of(one), own)
        assert_sound(target, own)
        total += target.counts
        assert target.counts.retokenised == target.counts.invalid == 0
        parsed = parse(text_of(target, own))
        if style == "clean":
            assert parsed.conforming
            assert len(parsed.objects) == len(one.gt)
            assert sum(one_box.kind == "bbox_2d" for one_box in one.gt) == len(target.boxes_M4)
        else:
            whole = [r for r in parse(one.text).records if r.reason != "truncated_record"]
            assert len(parsed.records) == len(whole) + target.counts.missed
            assert "truncated" not in parsed.issues
            # All ids up to the last coordinate of the last whole record are the rollout's own.
            slots = [n for n, i in enumerate(one.token_ids) if own.table.bin_of(i) is not None]
            kept = one.text[: whole[-1].end].count("<|coord_") if whole else 0
            last = slots[kept - 1] + 1 if kept else 0
            assert target.token_ids[:last] == one.token_ids[:last]
            perfect = parse(one.text).conforming and not target.counts.missed
            if perfect and one.finish_reason == "stop":
                assert target.token_ids == one.token_ids
    assert total.rollouts == (48 if run == "ckpt-polygons" else 64)
    assert_counts_add_up(total, own)


@pytest.mark.parametrize(("style", "insertion"), STYLES)
@pytest.mark.parametrize("name", DUMPS)
def test_targets_of_broken_dumps(name, style, insertion, fixture_context):
    """Every invented failure gives a sound target, cut at any token too."""
    dialect = dialect_named("object-map" if name == "object-map" else "coordjson")
    own = replace(styled(fixture_context, style, insertion), dialect=dialect)
    for one in list(iter_rollouts(FIXTURES / "dumps" / f"{name}.jsonl", FRAME))[::3]:
        target = build_target(one, sample_of(one), own)
        assert_sound(target, own)
        parsed = parse(text_of(target, own), dialect)
        assert "truncated" not in parsed.issues
        if style == "clean" or target.counts.invalid or target.counts.failed:
            assert parsed.conforming
            assert len(parsed.objects) == target.counts.matched + target.counts.missed
        ids = own.tokenizer(one.text, add_special_tokens=False)["input_ids"]
        for end in (len(ids) // 3, len(ids) // 2, len(ids) - 1):
            cut = replace(
                one,
                token_ids=ids[:end],
                text=own.tokenizer.decode(ids[:end]),
                finish_reason="length",
            )
            assert_sound(build_target(cut, sample_of(one), own), own)


odd_text = st.lists(
    st.sampled_from(
        [
            '{"objects": [',
            '{"desc": "cat", "bbox_2d": [<|coord_10|>, <|coord_20|>, <|coord_110|>, <|coord_220|>]}',
            '{"desc": "第九", "bbox_2d": [<|coord_5|>, 第九, <|coord_6|>]}',
            '{"desc": "',
            ", ",
            "]}",
            "]",
            "}",
            '"',
            "<|im_start|>",
            "<|coord_3|>",
            "{}",
            "🐈",
            '"bbox_2d": [',
            " \n",
            "\\",
            *AWKWARD_NAMES,
        ]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    max_size=12,
).map("".join)


@settings(max_examples=150)
@given(
    odd_text,
    st.sampled_from(STYLES),
    st.sampled_from(["stop", "length", "loop_guard", "grammar_error", "error", None]),
    st.booleans(),
    st.sampled_from(["coordjson", "coordjson-quoted", "object-map-bare"]),
)
def test_any_text_gives_a_sound_target(text, style, finish, own_ids, name):
    """Never raises, whatever a model wrote; everything adds up."""
    own = context(name, target=style[0], insertion=style[1])
    one = rollout(text, finish=finish)
    if not own_ids:
        one.token_ids = None
    target = build_target(one, sample(box("cat", 12, 20, 110, 220), box("x", 500, 0, 600, 90)), own)
    assert_sound(target, own)
    assert target.counts.rollouts == 1
    assert target.counts.failed == (finish == "error")


@given(scenes(), st.sampled_from(["", "no idea", '[{"desc"', "error"]), st.sampled_from(STYLES))
def test_without_a_readable_rollout_all_ground_truth_is_taught_as_in_stage_1(scene, text, style):
    """Ids, kinds and boxes are the labeller's own, in every order of writing."""
    truth = scene.sample()
    for order, seed in (("sorted", 0), ("random", 3), ("as_is", 0)):
        own = context(target=style[0], insertion=style[1], order=order, seed=seed)
        one = rollout(text, finish="error" if text == "error" else "stop")
        target = build_target(one, truth, own)
        written = sample_text(truth, dialect=own.dialect, frame=FRAME, order=order, seed=seed)
        answer = own.labeller.label(written)
        assert target.token_ids == answer.token_ids
        assert target.labels_T.tolist() == answer.token_ids
        assert target.kinds_T.tolist() == answer.kinds_T.tolist()
        assert target.boxes_M4.tolist() == answer.boxes_M4.tolist()
        assert (target.weights_T == (answer.kinds_T != COORDINATE)).all()
        assert target.counts.missed == len(scene.objects)
        assert target.counts.matched == 0


@given(scenes(drops=False), st.sampled_from(STYLES))
def test_a_perfect_rollout_teaches_what_stage_1_teaches(scene, style):
    """With full weights, the canonical text of the truth is its own target in every style."""
    truth = scene.sample()
    own = context(target=style[0], insertion=style[1], tokens=TokenWeights(matched_desc=1.0))
    text = sample_text(truth, dialect=own.dialect, frame=FRAME, order="sorted")
    answer = own.labeller.label(text)
    target = build_target(rollout(text, answer.token_ids), truth, own)
    assert target.token_ids == answer.token_ids
    assert target.labels_T.tolist() == answer.token_ids
    assert target.kinds_T.tolist() == answer.kinds_T.tolist()
    assert target.boxes_M4.tolist() == answer.boxes_M4.tolist()
    assert target.counts.matched == len(scene.objects)


@pytest.mark.parametrize(("style", "insertion"), STYLES)
def test_crowds_and_degenerate_objects_are_neither_matched_nor_missed(style, insertion):
    """They are counted, never written; a prediction on a crowd is neither right nor wrong."""
    cat = '{"desc": "cat", "bbox_2d": [<|coord_10|>, <|coord_20|>, <|coord_110|>, <|coord_220|>]}'
    truth = sample(
        box("cat", 0, 0, 500, 500, crowd=True),
        box("cat", 50, 50, 50, 90),
        box("dog", 600, 600, 700, 700),
    )
    own = context(target=style, insertion=insertion)
    target = build_target(rollout('{"objects": [' + cat + "]}"), truth, own)
    assert_sound(target, own)
    counts = target.counts
    assert (counts.on_crowd, counts.false_positives, counts.crowd, counts.degenerate) == (
        1,
        0,
        1,
        1,
    )
    assert counts.missed == 1
    assert (cat in text_of(target, own)) == (style == "prefix")


def test_of_a_failed_rollout_nothing_but_the_failure_is_counted():
    """What an engine left behind is no word of the model's: not read, cut, dropped or found."""
    left = '{"objects": [{"desc": "cat", "bbox_3d": []}, {"desc": "ca'
    for finish, error in (("error", None), ("length", "out of memory")):
        one = rollout(left, [10**6], finish=finish, error=error)
        counts = build_target(one, sample(box("cat", 1, 2, 30, 40)), context()).counts
        assert counts == TargetCounts(rollouts=1, failed=1, annotated=1, missed=1)


def test_no_truth_and_nothing_written_is_an_empty_list():
    """An empty image: the empty list is right, and taught."""
    for style, insertion in STYLES:
        own = context(target=style, insertion=insertion)
        target = build_target(rollout('{"objects": []}'), sample(), own)
        assert target.token_ids == [*ids_of('{"objects": []}'), END_ID]
        assert (target.labels_T == target.token_ids).all()


def test_weights_of_zero_teach_nothing():
    """Without any weight only coordinates are taught."""
    none = TokenWeights(matched_struct=0, matched_desc=0, missed_struct=0, missed_desc=0, closing=0)
    for style, insertion in STYLES:
        own = context(target=style, insertion=insertion, tokens=none)
        target = build_target(rollout('{"objects": []}'), sample(box("cat", 1, 2, 30, 40)), own)
        assert set(target.kinds_T.tolist()) == {IGNORE, COORDINATE}
        assert target.weights_T.sum() == 0


def test_the_gate_and_classes_of_the_configuration_are_used():
    """A pair below the gate is a miss and a false positive; so is another class where it counts."""
    text = '{"objects": [{"desc": "dog", "bbox_2d": [<|coord_0|>, <|coord_0|>, <|coord_100|>, <|coord_60|>]}]}'
    truth = sample(box("cat", 0, 0, 100, 100))
    for config, matched in (
        (MatchingConfig(), 1),
        (MatchingConfig(gate=0.7), 0),
        (MatchingConfig(class_aware=True), 0),
        (MatchingConfig(fp_cost=0.1, fn_cost=0.2), 0),
    ):
        counts = build_target(rollout(text), truth, context(matching=config)).counts
        assert (counts.matched, counts.missed, counts.false_positives) == (
            matched,
            1 - matched,
            1 - matched,
        )
        assert counts.gating_rejections == (config.gate == 0.7)


def test_two_views_of_a_sample_give_the_same_twice():
    """The same rollout gives the same target, array for array."""
    for one in list(iter_rollouts(FIXTURES / "runs" / "ckpt-loops" / "rollouts.jsonl", FRAME))[:8]:
        first, second = (build_target(one, sample_of(one), context()) for _ in range(2))
        assert first.token_ids == second.token_ids
        for name in ("labels_T", "kinds_T", "weights_T", "boxes_M4", "unlikely_U2"):
            assert (getattr(first, name) == getattr(second, name)).all()
        assert first.counts == second.counts


def test_dialects_of_integers_are_refused():
    """There is no coordinate token to teach a true bin at; the message says what to do."""
    with pytest.raises(ConfigError, match="choose a dialect with coordinate tokens"):
        context("coordjson-bins")


def test_counts_add_field_by_field():
    """Sums over a step, under the same names."""
    one = TargetCounts(rollouts=1, matched=2, unlikely=3)
    assert (one + one).by_name() == {name: 2 * n for name, n in one.by_name().items()}
    assert json.loads(json.dumps(one.by_name()))["matched"] == 2


def test_targets_are_shifted_as_any_answer_is():
    """Behind a prompt every label, box and unlikely token has the state that predicts it."""
    run = FIXTURES / "runs" / "ckpt-loops" / "rollouts.jsonl"
    for one in list(iter_rollouts(run, FRAME))[:16]:
        target = build_target(one, sample_of(one), context())
        prompt = 3
        silent = torch.full((prompt,), IGNORE_LABEL)
        unlikely = torch.from_numpy(target.unlikely_U2) + torch.tensor([prompt, 0])
        batch = {
            "labels": torch.cat([silent, torch.from_numpy(target.labels_T)])[None],
            "token_kinds": torch.cat([silent * 0, torch.from_numpy(target.kinds_T)])[None],
            "token_weights": torch.cat([silent * 0.0, torch.from_numpy(target.weights_T)])[None],
            "box_slots": torch.from_numpy(target.boxes_M4) + prompt,
            "unlikely": unlikely,
        }
        found = shifted(batch)
        assert (found.states_N >= prompt - 1).all()
        bins = TABLE.coords.bins_of(found.labels_N[found.boxes_M4].numpy().ravel())
        assert (bins >= 0).all()
        rows, tokens = found.unlikely_U2.unbind(1)
        assert (found.states_N[rows] == unlikely[:, 0] - 1).all()
        assert (found.labels_N[rows] != tokens).all()
