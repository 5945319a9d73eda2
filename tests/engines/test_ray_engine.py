"""The rounds on a cluster, without one: whatever comes back or not, every request gets one line."""

from __future__ import annotations

import copy
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from coordeval.engines.base import error_rollout, new_rollout
from coordeval.engines.ray_engine import ALONE, ROUNDS, Pace, RayEngine, StreamLost, cut_into_blocks
from coordeval.engines.ray_wire import Answer, Block, Failure, homeward, outward, pack, unpack
from coordeval.engines.runner import make_requests
from coordeval.errors import CheckpointError, ConfigError

PACE = Pace(block=3, at_once=2, held=2)


class Inner:
    """An engine that only says what the replicas are."""

    def describe(self):
        identity = {"name": "hf", "dtype": "fp32"}
        return {"identity": identity, "environment": {"device": "cpu"}, "versions": {"torch": "2"}}

    def vocabulary(self):
        return None

    def close(self):
        pass


class Cluster:
    """Plays rounds: `play(number, block)` gives the answers to one block, or raises."""

    def __init__(self, play, room=2):
        self.play, self.size, self.rounds, self.avoided = play, room, [], []

    def __call__(self, blocks, pace, avoid):
        self.rounds.append((pace, blocks))
        self.avoided.append(avoid)
        for block in blocks:
            yield from self.play(len(self.rounds), unpack(pack(block)))

    def room(self):
        return self.size

    def close(self):
        pass


def answer(block, *, node="n1", **fields):
    return Answer(block=block.name, node=node, node_id=f"id-{node}", **fields)


def answered(block, **fields):
    rollouts = [new_rollout(item, f"text of {item.id}") for item in block.requests]
    return answer(block, rollouts=rollouts, **fields)


def failed(block, *, replica="r1", kind="CheckpointError", node="n1"):
    failure = Failure(text="ckpt: cut short", kind=kind, replica=replica)
    return answer(block, node=node, failure=failure)


def run(cluster, requests, replicas=2):
    """All lines of an engine on the cluster, and what it warned of."""
    notes = []
    engine = RayEngine(
        Inner(),
        cluster,
        pace=PACE,
        replicas=replicas,
        about={"replicas": replicas},
        versions={"ray": "9"},
        notify=notes.append,
    )
    lines = [line for batch in engine.generate(requests) for line in batch]
    assert Counter((line.id, line.sample_index) for line in lines) == Counter(
        request.key for request in requests
    )
    return {line.id: line for line in lines}, notes


@pytest.fixture
def requests(samples, greedy):
    """Twelve requests with ground truth."""
    return make_requests(samples, greedy)


def test_one_round_suffices_where_all_is_well(requests):
    """Ground truth is back on every line, and nobody is warned."""
    cluster = Cluster(lambda _, block: [answered(block)])
    lines, notes = run(cluster, requests)
    assert len(cluster.rounds) == 1 and notes == []
    for request in requests:
        assert lines[request.id].text == f"text of {request.id}"
        assert lines[request.id].gt == request.sample.objects


def test_nothing_is_asked_for_no_requests():
    """No round at all."""
    cluster = Cluster(lambda _, block: [answered(block)])
    assert run(cluster, []) == ({}, [])
    assert cluster.rounds == []


@pytest.mark.parametrize("seed", range(30))
def test_lost_doubled_and_partial_answers_leave_one_line_each(requests, seed):
    """Whatever a cluster loses, repeats or half answers, no id is missing or doubled."""
    chance = random.Random(seed)

    def play(number, block):
        if chance.random() < 0.05:
            raise StreamLost("gone")
        full = answered(block)
        part = replace(full, rollouts=[one for one in full.rollouts if chance.random() < 0.5])
        kinds = [[], [full], [full, copy.deepcopy(full)], [part], [part, full]]
        if number > 1:
            kinds.append([answer(block, given_up=True)])
        return chance.choice(kinds)

    lines, notes = run(Cluster(play), requests)
    for request in requests:
        line = lines[request.id]
        assert line.error or line.text == f"text of {request.id}"
        assert line.gt == request.sample.objects
    assert bool(notes) or not any(line.error for line in lines.values())


def test_what_never_comes_ends_as_error_lines(requests):
    """After a finite number of rounds, each smaller than the last, every line says why."""
    cluster = Cluster(lambda number, block: [])
    lines, notes = run(cluster, requests)
    assert len(cluster.rounds) == ROUNDS and len(notes) == ROUNDS - 1
    assert cluster.rounds[-1][0] == ALONE
    assert all(len(block.requests) == 1 for block in cluster.rounds[-1][1])
    assert all("no answer" in line.error for line in lines.values())


def test_a_request_that_kills_its_worker_is_found_alone(requests):
    """Its block is lost at first; asked alone it is given up, and the others have their texts."""

    def play(number, block):
        if any(item.id == "im5" for item in block.requests):
            return [answer(block, given_up=True)]
        return [answered(block)]

    cluster = Cluster(play)
    lines, _ = run(cluster, requests)
    assert [key for key, line in lines.items() if line.error] == ["im5"]
    assert "died" in lines["im5"].error
    assert len(cluster.rounds) == 2


def test_a_lost_cluster_is_asked_again_and_then_said(requests):
    """What Ray said last stands in the error lines."""

    def play(number, block):
        raise StreamLost("RaySystemError: head node died")

    lines, notes = run(Cluster(play), requests)
    assert all("head node died" in line.error for line in lines.values())
    assert "head node died" in notes[0]


def test_replicas_that_cannot_start_are_the_users_fault(requests):
    """Where all of them fail before any answer, the error is theirs, and other blocks are left."""
    asked = []

    def play(number, block):
        asked.append(block.name)
        return [failed(block, replica=f"r{len(asked) % 2}")]

    with pytest.raises(CheckpointError, match="cut short"):
        run(Cluster(play), requests)
    assert len(asked) == 2


def test_an_unforeseen_failure_to_start_is_a_configuration_error(requests):
    """It is told in one line, with no replica's traceback."""
    with pytest.raises(ConfigError, match="cut short"):
        run(Cluster(lambda _, block: [failed(block, kind=None)], room=1), requests)


def test_a_lame_node_is_avoided_in_the_next_round(requests):
    """Its share goes to others; a text of its warning comes once, however often it fails."""

    def play(number, block):
        lame = number == 1 and int(block.name.rsplit(" ", 1)[1]) % 2
        return [failed(block, replica="r9", node="n9") if lame else answered(block)]

    cluster = Cluster(play)
    lines, notes = run(cluster, requests)
    assert not any(line.error for line in lines.values())
    assert cluster.avoided == [frozenset(), frozenset({"id-n9"})]
    assert len(notes) == 2 and all("cut short" in note for note in notes)
    assert "node n9" in notes[0] and "asked again" in notes[1]


def test_failures_after_answers_do_not_stop_the_run(requests):
    """Once anything was answered, what fails for good is error lines, not an exception."""

    def play(number, block):
        first = number == 1 and block.name.endswith("block 0")
        return [answered(block) if first else failed(block, replica=block.name)]

    lines, _ = run(Cluster(play), requests)
    assert sum(line.error is None for line in lines.values()) == 3
    assert all("cut short" in line.error for line in lines.values() if line.error)


def test_the_identity_is_that_of_the_replicas():
    """Their number and the cluster stand in the environment: another one may finish the run."""
    described = [
        RayEngine(
            Inner(),
            Cluster(None),
            pace=PACE,
            replicas=count,
            about={"replicas": count},
            versions={"ray": "9"},
            notify=print,
        ).describe()
        for count in (2, 7)
    ]
    assert described[0]["identity"] == described[1]["identity"] == Inner().describe()["identity"]
    assert [item["environment"]["replicas"] for item in described] == [2, 7]
    assert described[0]["versions"] == {"torch": "2", "ray": "9"}


@pytest.mark.parametrize("count", [0, 1, 2, 7, 12])
@pytest.mark.parametrize("size", [1, 3, 500])
@pytest.mark.parametrize("replicas", [1, 2, 8])
def test_blocks_hold_every_request_once(requests, count, size, replicas):
    """In order, none empty, none above the size, with work for every replica."""
    blocks = cut_into_blocks(requests[:count], size, replicas, name="round 1")
    keys = [item.key for block in blocks for item in block.requests]
    assert keys == [item.key for item in requests[:count]]
    assert all(1 <= len(block.requests) <= size for block in blocks)
    assert len({block.name for block in blocks}) == len(blocks)
    assert len(blocks) * 2 >= min(replicas, count)


def test_paces_get_smaller():
    """Few missing ones go one by one; many in smaller blocks that keep replicas busy."""
    pace = Pace(block=16, at_once=10, held=10)
    assert pace.after(5, 2) == ALONE
    assert pace.after(100_000, 2) == replace(pace, block=4)
    assert Pace(block=1, at_once=3, held=3).after(100_000, 2) == ALONE


def test_ground_truth_does_not_travel(requests):
    """A request is small on its way, its image an absolute path; errors name it as it is here."""
    request = requests[3]
    relative = replace(request, sample=replace(request.sample, image_path=Path("a/b.png")))
    sent = unpack(pack(Block(name="b", requests=[outward(relative)]))).requests[0]
    assert sent.sample.objects == () and sent.sample.metadata == {}
    assert sent.key == request.key and sent.seed == request.seed
    assert sent.image_path.is_absolute() and sent.image_path.name == "b.png"
    back = homeward(error_rollout(sent, f"{sent.image_path}: no such file"), relative)
    assert back.error == "a/b.png: no such file"
    assert back.gt == request.sample.objects != ()
