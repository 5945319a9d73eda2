"""Where scores come from, and their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coordeval.errors import ConfigError, DataError
from coordeval.metrics.confidence import tied_fraction
from coordeval.metrics.token_map import VocabularyVotes, vocabulary_from_meta

FIRST = 5000


def tokens_of(text, values):
    """(ids, logprobs): one id per coordinate token with the given values, one per other sign."""
    ids, logs, rest, values = [], [], text, iter(values)
    while rest:
        if rest.startswith("<|coord_"):
            token, rest = rest.split("|>", 1)
            ids.append(FIRST + int(token.removeprefix("<|coord_")))
            logs.append(next(values))
        else:
            ids.append(ord(rest[0]))
            logs.append(-0.5)
            rest = rest[1:]
    return ids, logs


@pytest.fixture
def with_logprobs(line, rec, text):
    """A line of two boxes whose tokens have the log-probabilities -.1 .. -.4 and -1."""

    def make(**more):
        whole = text(rec("cat", (0, 0, 9, 9)), rec("dog", (0, 0, 90, 90)))
        ids, logs = tokens_of(whole, [-0.1, -0.2, -0.3, -0.4, -1, -1, -1, -1])
        return (
            line(whole, [], token_ids=[*ids, 7], token_logprobs=[*logs, 0.0], finish_reason="stop")
            | more
        )

    return make


def test_logprob_is_exp_of_the_mean(score, with_logprobs):
    """-.1 .. -.4 give exp(-.25) = .7788."""
    result = score([with_logprobs()])
    assert result.score_source == "logprob"
    assert result.scores.tolist() == pytest.approx([math.exp(-0.25), math.exp(-1)])


def test_logprob_needs_all_boxes_or_none(score, with_logprobs, line, rec, text):
    """One rollout with a box and no log-probabilities makes every score 1."""
    result = score([with_logprobs(), line(text(rec("a", (0, 0, 5, 5))), [], id="b")])
    assert result.score_source == "constant"
    assert set(result.scores.tolist()) == {1.0}


def test_rollouts_without_boxes_do_not_matter(score, with_logprobs, line, text):
    """An empty answer without log-probabilities spoils nothing."""
    assert score([with_logprobs(), line(text(), [], id="b")]).score_source == "logprob"


def test_counts_that_disagree_give_no_logprobs(score, with_logprobs):
    """Where text and ids do not tell the same coordinates nothing is guessed."""
    item = with_logprobs()
    item["token_ids"][item["token_ids"].index(FIRST + 9)] = 3
    assert score([item]).score_source == "constant"


def test_given_scores_come_first_and_cover_found_records(score, line, rec, text):
    """One score per found record, dropped ones included; the kept ones' are used."""
    bad = rec("b", (9, 9, 1, 1))
    item = line(
        text(rec("a", (0, 0, 5, 5)), bad, rec("c", (0, 0, 5, 5))), [], scores=[0.9, 0.8, 0.7]
    )
    result = score([item])
    assert (result.score_source, result.scores.tolist()) == ("scores", [0.9, 0.7])


def test_scores_of_another_length_are_refused(score, line, rec, text):
    """The message names the id and both numbers."""
    with pytest.raises(DataError, match=r"'a': 2 scores for 1 found"):
        score([line(text(rec("a", (0, 0, 5, 5))), [], scores=[0.1, 0.2])])


def test_scores_on_some_rollouts_only_are_refused(score, line, rec, text):
    """Mixed sources have no common scale."""
    one = text(rec("a", (0, 0, 5, 5)))
    with pytest.raises(DataError, match="'b' has no 'scores'"):
        score([line(one, [], scores=[0.5]), line(one, [], id="b")])


def test_order_falls_with_emission(score, line, rec, text):
    """1, 1/2, 1/3 within each image."""
    one = text(*(rec("a", (k, 0, k + 5, 5)) for k in range(3)))
    result = score([line(one, []), line(one, [], id="b")], score_source="order")
    assert result.scores.tolist() == [1.0, 1 / 2, 1 / 3] * 2
    assert result.metrics["score/tied_frac"] == 1.0


def test_fused_is_a_weighted_mean(score, with_logprobs):
    """0.7 of the box and 0.3 of what stands before it (all signs at -.5 here)."""
    result = score([with_logprobs()], score_source="fused")
    want = [0.7 * math.exp(box) + 0.3 * math.exp(-0.5) for box in (-0.25, -1)]
    assert (result.score_source, result.scores.tolist()) == ("fused", pytest.approx(want))


def test_a_source_the_run_cannot_give_is_an_error(score, line, rec, text):
    """A named source is never replaced in silence."""
    lines = [line(text(rec("a", (0, 0, 5, 5))), [])]
    for source in ("scores", "logprob", "fused", "nonsense"):
        with pytest.raises(ConfigError, match=source):
            score(lines, score_source=source)


def test_coordinate_tokens_in_a_description_are_not_the_box(score, line, rec, text):
    """The box's own four tokens give the score, not those of the name before them."""
    whole = text(rec("near <|coord_5|>", (0, 0, 9, 9)))
    ids, logs = tokens_of(whole, [-9.0, -0.1, -0.2, -0.3, -0.4])
    result = score([line(whole, [], token_ids=ids, token_logprobs=logs)])
    assert result.scores.tolist() == pytest.approx([math.exp(-0.25)])


def _voted(pairs):
    """What (text, token ids) of one run vote for."""
    votes = VocabularyVotes()
    for text, ids in pairs:
        votes.add(text, ids)
    return votes.vocabulary()


def test_vocabulary_is_inferred_only_when_unambiguous():
    """The offset must reproduce every bin in order; two answers are no answer."""
    ids = np.array([3, FIRST + 10, 8, FIRST + 20, FIRST + 30])
    text = "<|coord_10|> <|coord_20|> <|coord_30|>"
    found = _voted([(text, ids)])
    assert found is not None
    assert found[0] == FIRST
    assert _voted([("<|coord_10|>", np.array([3000, 9000]))]) is None
    assert _voted([(text, ids[[0, 3, 2, 1, 4]])]) is None
    assert _voted([]) is None


def test_one_odd_rollout_does_not_hide_the_vocabulary():
    """A rollout whose ids spell a token from ordinary pieces is outvoted."""
    good = ("<|coord_10|> <|coord_20|>", np.array([FIRST + 10, 1, FIRST + 20]))
    odd = ("<|coord_10|> <|coord_20|>", np.array([FIRST + 10, 1, 2, 3]))
    found = _voted([odd, good, good])
    assert found is not None
    assert found[0] == FIRST


def test_tied_fraction():
    """Half of four scores are shared; none without predictions."""
    assert tied_fraction(np.array([0.1, 0.2, 0.2, 0.9])) == 0.5
    assert tied_fraction(np.array([0.3])) == 0.0
    assert tied_fraction(np.zeros(0)) is None


@pytest.mark.parametrize(
    "declared",
    [
        {"first": 2**70},
        {"first": -1},
        {"first": True},
        {"first": 1.0},
        {"ids": [*range(999), 2**70]},
        {"ids": ["a"] * 1000},
        {"ids": [[1]] * 1000},
        {"ids": [k / 2 for k in range(1000)]},
        {"ids": [0] * 1000},
        {"ids": list(range(999))},
        "ids",
        [1],
    ],
)
def test_what_is_no_list_of_ids_is_refused_in_one_line(declared):
    """Numbers that no tokenizer could mean, and other kinds of values, are faults of run.json."""
    with pytest.raises(DataError, match=r"run\.json: 'vocabulary' must be"):
        vocabulary_from_meta({"vocabulary": declared})
