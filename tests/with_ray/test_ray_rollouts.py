"""Rollouts on two nodes: the texts of one machine, whatever happens to actors and nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from clustering import FIXTURES, POISON, assert_same, keys_on_disk, replicas, roll
from PIL import Image

from coordeval.data.dataset import open_dataset
from coordeval.engines.runner import RolloutsStopped
from coordeval.errors import CheckpointError, RunMismatchError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """The run of one machine that all others are held against."""
    _, lines, _ = roll(tmp_path_factory.mktemp("alone") / "run")
    return lines


def write_data(folder, images):
    """A dataset of the first scenes in which some images are replaced; its file."""
    records = []
    for index, sample in enumerate(open_dataset(FIXTURES / "scenes" / "heldout.jsonl")):
        if index == 6:
            break
        path = folder / images.get(index, f"{index}.png")
        if index not in images:
            path.write_bytes(sample.image_path.read_bytes())
        record = {"id": sample.id, "image": path.name}
        record |= {"width": sample.width, "height": sample.height, "objects": []}
        records.append(json.dumps(record))
    data = folder / "data.jsonl"
    data.write_text("\n".join(records) + "\n")
    return data


def test_two_nodes_write_what_one_machine_writes(cluster, tmp_path, alone):
    """Tokens, texts and order are equal; run.json says who wrote it, and is no other run for it."""
    out = tmp_path / "run"
    outcome, lines, notes = roll(out, address=cluster.address)
    assert outcome.exit_code() == 0 and notes == []
    assert_same(lines, alone)
    meta = json.loads((out / "run.json").read_text())
    assert meta["engine"] == {"name": "hf", "dtype": "fp32"}
    assert meta["environment"]["replicas"] == 2 and meta["environment"]["nodes"] == 2
    assert "ray" in meta["versions"]
    again, same, _ = roll(out)  # on one machine, with nothing left to do
    assert again.resumed == 12 and same == lines


def test_it_goes_on_with_another_number_of_replicas(cluster, tmp_path, alone):
    """Stopped after the first answers, finished by one replica: every id once, the same texts."""
    out = tmp_path / "run"

    def stop(progress):
        if progress.made:
            raise RolloutsStopped

    with pytest.raises(RolloutsStopped):
        roll(out, address=cluster.address, on_progress=stop)
    half = len(keys_on_disk(out))
    assert 0 < half < 12
    assert replicas() == []
    outcome, lines, _ = roll(out, address=cluster.address, replicas=1)
    assert outcome.resumed == half and outcome.exit_code() == 0
    assert_same(lines, alone)
    assert sorted(keys_on_disk(out)) == sorted((line.id, 0) for line in alone)
    with pytest.raises(RunMismatchError):
        roll(out, address=cluster.address, max_new_tokens=129)


def test_a_killed_actor_costs_nothing(cluster, tmp_path, alone):
    """SIGKILL to an engine's process in mid-run: its samples are redone, no line is an error."""
    victims = []

    def kill_one(progress):
        if progress.made and not victims:
            victims.extend(replicas())
            os.kill(victims[0].pid, signal.SIGKILL)

    out = tmp_path / "run"
    outcome, lines, _ = roll(out, address=cluster.address, on_progress=kill_one)
    assert len(victims) == 2
    assert outcome.exit_code() == 0
    assert_same(lines, alone)
    assert len(keys_on_disk(out)) == 12


def test_a_node_that_goes_away_costs_nothing(cluster, tmp_path, alone):
    """A third node with a replica is torn out in mid-run; the others finish its samples."""
    third = cluster.add_node(**cluster.node_arguments)
    gone = []

    def remove(progress):
        if progress.made and not gone:
            gone.append(third)
            cluster.remove_node(third, allow_graceful=False)

    outcome, lines, _ = roll(
        tmp_path / "run", address=cluster.address, on_progress=remove, replicas=3, batch_size=1
    )
    assert gone and outcome.exit_code() == 0
    assert_same(lines, alone)


def test_bad_samples_are_error_lines(cluster, tmp_path):
    """Broken, missing and wrong images as on one machine; one that kills its worker, itself alone."""
    data = write_data(tmp_path, {1: "broken.png", 2: "nowhere.png", 3: POISON, 4: "small.png"})
    scene = (tmp_path / "0.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(scene[:99])
    (tmp_path / POISON).write_bytes(scene)
    Image.new("RGB", (5, 5)).save(tmp_path / "small.png")
    _, expected, _ = roll(tmp_path / "one", data=data)
    outcome, lines, notes = roll(tmp_path / "two", data=data, address=cluster.address)
    killed, unhurt = lines.pop(3), expected.pop(3)
    assert unhurt.error is None and "died" in killed.error
    assert any("asked again" in note for note in notes)
    assert [line.error is not None for line in lines] == [False, True, True, True, False]
    assert_same(lines, expected)
    assert outcome.status == "complete" and outcome.exit_code() == 3


def test_a_node_without_an_engine_is_told_and_left_alone(cluster, tmp_path, alone):
    """What a lame replica could not answer is asked for again elsewhere; no line is an error."""
    arguments = dict(cluster.node_arguments)
    arguments["env_vars"] = arguments["env_vars"] | {"LAME": "1"}
    lame = cluster.add_node(**arguments)
    try:
        outcome, lines, notes = roll(
            tmp_path / "run", address=cluster.address, replicas=3, batch_size=1
        )
    finally:
        cluster.remove_node(lame)
    assert outcome.exit_code() == 0
    assert_same(lines, alone)
    assert any("the disk is gone" in note for note in notes)
    assert any("asked again" in note for note in notes)


def test_a_checkpoint_that_no_replica_can_open_is_the_users_fault(cluster, tmp_path):
    """Cut weights are told as what they are, and no line is written for it."""
    broken = tmp_path / "ckpt"
    broken.mkdir()
    for item in (FIXTURES / "ckpt-2400").iterdir():
        (broken / item.name).write_bytes(item.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    out = tmp_path / "run"
    with pytest.raises(CheckpointError, match="ckpt"):
        roll(out, address=cluster.address, checkpoint=str(broken))
    assert keys_on_disk(out) == []


def test_the_command_can_be_stopped_and_goes_on(cluster, tmp_path, alone):
    """SIGTERM saves and exits 143; the same command finishes; stdout holds the run alone."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "coordeval", "rollout", "ckpt-2400", "--engine", "ray"]
    command += ["--ray-address", cluster.address, "--replicas", "2", "--inner", "hf"]
    command += ["--limit", "12", "--max-new-tokens", "128", "--batch-size", "2", "--no-score"]
    command += ["--out", str(out)]
    first = subprocess.Popen(
        command, cwd=FIXTURES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in first.stderr:
            if line.startswith("rollout ") and not line.startswith("rollout 0/"):
                break
        first.send_signal(signal.SIGTERM)
        output, log = first.communicate(timeout=120)
    finally:
        first.kill()
    assert first.returncode == 143, log
    assert output == ""
    done = subprocess.run(command, cwd=FIXTURES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    from coordeval.runs import open_run

    assert_same(list(open_run(out).rollouts()), alone)
