"""Parts of the Ray engine that need no Ray: the desk, images, shared engines, nodes, addresses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from coordeval.engines.base import new_rollout
from coordeval.engines.options import RolloutOptions
from coordeval.engines.parallel import TRIES
from coordeval.engines.ray_address import check_address, reach
from coordeval.engines.ray_cluster import Node, _check_same
from coordeval.engines.ray_desk import Desk
from coordeval.engines.ray_images import file_state, images_at_hand, read_file
from coordeval.engines.ray_nodes import NodeFacts, check_facts, node_facts
from coordeval.engines.ray_shared import SharedEngine
from coordeval.engines.ray_source import choose_inner, pace_of
from coordeval.engines.ray_words import divide_stdout, join_stdout
from coordeval.engines.runner import make_requests
from coordeval.errors import ConfigError


def test_a_block_may_be_begun_a_finite_number_of_times():
    """The desk counts each block for itself."""
    desk = Desk()
    assert [desk.begin("a") for _ in range(TRIES + 2)] == [True] * TRIES + [False, False]
    assert desk.begin("b")


class FarDesk:
    """A desk whose files look different from what is here, as on another machine."""

    def __init__(self, content):
        self.content, self.asked = content, []

    def states(self, paths):
        return [None if self.content.get(path) is None else (-1, -1) for path in paths]

    def read(self, paths):
        self.asked += paths
        return [self.content[path] for path in paths]


@pytest.fixture
def image_requests(image_samples, greedy):
    """One request per noise image, and a second one of the first image."""
    return make_requests([*image_samples, replace(image_samples[0], id="twin")], greedy)


def test_the_same_file_is_read_where_it_is(image_requests):
    """Same size and time of change: the path stays, and no byte is asked for."""
    desk = Desk()
    desk.read = None
    with images_at_hand(image_requests, desk) as (ready, failed, origins):
        assert ready == image_requests and failed == [] and origins == {}


def test_another_file_is_fetched_and_gone_afterwards(image_requests):
    """Bytes as they are there, one copy per image, which names its origin and does not stay."""
    content = {str(item.image_path): item.image_path.read_bytes() for item in image_requests}
    desk = FarDesk(content)
    with images_at_hand(image_requests, desk) as (ready, failed, origins):
        assert failed == [] and [item.key for item in ready] == [r.key for r in image_requests]
        for asked, item in zip(image_requests, ready, strict=True):
            assert item.image_path != asked.image_path
            assert item.image_path.read_bytes() == asked.image_path.read_bytes()
            assert origins[str(item.image_path)] == str(asked.image_path)
        copies = [item.image_path for item in ready]
    assert not any(copy.exists() for copy in copies)
    assert sorted(desk.asked) == sorted(content)


def test_files_that_cannot_be_had_are_told_one_by_one(image_requests):
    """Missing at home: the engine says so. There, but unreadable: an error line with the reason."""
    content = {str(item.image_path): b"x" for item in image_requests}
    gone, closed = (str(image_requests[index].image_path) for index in (1, 2))
    content[gone], content[closed] = None, "Permission denied"
    with images_at_hand(image_requests, FarDesk(content)) as (ready, failed, _):
        assert [item.image_path for item in ready if str(item.image_path) == gone] != []
        assert len(ready) == len(image_requests) - 1
    assert [line.id for line in failed] == [image_requests[2].id]
    assert failed[0].error == f"{closed}: cannot be read: Permission denied"


def test_a_changed_file_is_another_state(tmp_path):
    """Size and time tell; what is not there has none, and a folder cannot be read."""
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = file_state(str(path))
    path.write_bytes(b"three")
    assert before != file_state(str(path))
    assert file_state(str(tmp_path / "b")) is None and file_state("a\0b") is None
    assert isinstance(read_file(str(tmp_path)), str) and isinstance(read_file("a\0b"), str)


class Slow:
    """An engine with a few places that takes requests as there is room, as vLLM does."""

    def __init__(self, places=4, fault=None):
        self.places, self.fault, self.most, self.sizes = places, fault, 0, []

    def generate(self, requests):
        waiting, running = iter(requests), []
        while True:
            while len(running) < self.places:
                request = next(waiting, None)
                if request is None:
                    break
                running.append(request)
            if not running:
                return
            self.most = max(self.most, len(running))
            request = running.pop(0)
            if request.id == self.fault:
                raise RuntimeError("no more")
            yield [new_rollout(request, request.id)]


def ask_from_threads(shared, blocks):
    """Answers of each block, or the exception, asked all at once."""
    out = [None] * len(blocks)

    def ask(index):
        try:
            out[index] = shared.answer(blocks[index])
        except RuntimeError as error:
            out[index] = error

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(blocks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return out


def test_threads_share_an_engine(samples, greedy):
    """Each gets its own answers; requests of several blocks are under way together."""
    engine = Slow()
    shared = SharedEngine(engine)
    requests = make_requests(samples, greedy)
    blocks = [requests[start : start + 2] for start in range(0, 12, 2)]
    for _ in range(20):
        for block, lines in zip(blocks, ask_from_threads(shared, blocks), strict=True):
            assert sorted(line.id for line in lines) == sorted(item.id for item in block)
    assert shared.answer([]) == []
    assert engine.most > 2
    shared.close()
    with pytest.raises(RuntimeError, match="closed"):
        shared.answer(blocks[0])


def test_a_fault_of_a_shared_engine_reaches_who_waits(samples, greedy):
    """Nobody waits for ever: answers or the fault; what is asked later is answered."""
    engine = Slow(fault="im3")
    shared = SharedEngine(engine)
    requests = make_requests(samples, greedy)
    blocks = [requests[start : start + 2] for start in range(0, 12, 2)]
    for block, got in zip(blocks, ask_from_threads(shared, blocks), strict=True):
        assert isinstance(got, RuntimeError) or {line.id for line in got} == {r.id for r in block}
    engine.fault = None
    assert len(shared.answer(requests)) == 12


def test_an_engine_that_leaves_requests_out_is_found_out(samples, greedy):
    """A request that is taken and not answered ends in an error, not in waiting."""

    class Forgetful:
        def generate(self, requests):
            list(requests)
            yield []

    with pytest.raises(RuntimeError, match="without an answer"):
        SharedEngine(Forgetful()).answer(make_requests(samples, greedy)[:2])


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_addresses_that_can_be_meant(address):
    """They come back as they are, spaces around them gone."""
    assert check_address(f" {address} ") == address


@pytest.mark.parametrize(
    "address", ["", "head", "head:", ":6379", "head:0", "head:99999", "http://head:1", "me@head:1"]
)
def test_addresses_that_make_no_sense(address):
    """The form is told."""
    with pytest.raises(ConfigError, match="HOST:PORT"):
        check_address(address)


def test_the_client_proxy_is_refused():
    """With the way that does it."""
    with pytest.raises(ConfigError, match="ray job submit"):
        check_address("ray://head:10001")


def test_nobody_at_the_address_is_told_at_once():
    """Ray itself would wait a minute."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but not listening
        with pytest.raises(ConfigError, match="cannot be reached"):
            reach(f"127.0.0.1:{held.getsockname()[1]}")


def test_a_process_is_in_one_cluster_at_a_time():
    """Another one is refused; other names of the same one are not."""
    for wanted in ("auto", "local", "10.0.0.1:6379", "head:6379"):
        _check_same(wanted, "10.0.0.1:6379")
    with pytest.raises(ConfigError, match="connected to"):
        _check_same("head:6380", "10.0.0.1:6379")


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n", b"", b"\0"])
def test_another_server_is_told_from_a_cluster(reply):
    """A web server on that port is no Ray: said at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            line, _ = server.accept()
            with line:
                line.recv(100)
                line.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConfigError, match=r"no Ray cluster|cannot be reached"):
            reach(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join(timeout=10)


@pytest.mark.parametrize(
    ("resources", "need", "room"),
    [
        ({"CPU": 4.0}, {"CPU": 1.0}, 4),
        ({"CPU": 4.0}, {"CPU": 1.0, "GPU": 1.0}, 0),
        ({"CPU": 4.0, "GPU": 8.0}, {"CPU": 1.0, "GPU": 2.0}, 4),
        ({"CPU": 2.0, "GPU": 8.0}, {"CPU": 1.0, "GPU": 2.0}, 2),
        ({"GPU": 7.0, "CPU": 64.0}, {"CPU": 1.0, "GPU": 4.0}, 1),
        ({}, {"CPU": 1.0}, 0),
    ],
)
def test_the_room_of_a_node(resources, need, room):
    """The scarcest resource decides."""
    assert Node(id="n", address="a", resources=resources).room(need) == room


def test_only_the_threads_of_ray_speak_on_stderr(capsys):
    """Results stay on stdout; afterwards the stream is the one it was."""
    before = sys.stdout
    divide_stdout()
    divide_stdout()
    for name in ("ray_listen_error_messages", "other"):
        thread = threading.Thread(target=print, args=(f"from {name}",), name=name)
        thread.start()
        thread.join()
    print("a result")
    join_stdout()
    assert sys.stdout is before
    join_stdout()
    captured = capsys.readouterr()
    assert captured.out == "from other\na result\n"
    assert captured.err == "from ray_listen_error_messages\n"


FACTS = NodeFacts(
    package="1.0",
    versions={"python": "3.11.1", "torch": "2.6"},
    missing=[],
    folders={"/ckpt": {"config.json": 10, "model.safetensors": 99}},
)


def test_equal_nodes_pass():
    """No warning."""
    assert check_facts(FACTS, FACTS, "a") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"package": "0.9"}, "0.9"),
        ({"missing": ["vllm"]}, "lacks vllm"),
        ({"folders": {"/ckpt": None}}, "no folder /ckpt"),
        ({"folders": {"/ckpt": {"config.json": 10, "model.safetensors": 98}}}, "model.safetensors"),
        ({"folders": {"/ckpt": {"config.json": 10}}}, "model.safetensors"),
        ({"folders": {"/ckpt": FACTS.folders["/ckpt"] | {"extra.py": 1}}}, "extra.py"),
    ],
)
def test_a_node_that_lacks_something_is_refused_by_name(change, words):
    """The node and what it lacks stand in the message."""
    with pytest.raises(ConfigError, match=r"node 10\.0\.0\.7: ") as caught:
        check_facts(FACTS, replace(FACTS, **change), "10.0.0.7")
    assert words in str(caught.value)


def test_other_versions_are_warned_of():
    """Each library once, with both versions; one that is missing on either side counts."""
    there = replace(FACTS, versions={"torch": "2.7", "vllm": "0.3"})
    warnings = check_facts(FACTS, there, "b")
    assert len(warnings) == 3
    assert any("torch is 2.7, here 2.6" in text for text in warnings)


def test_the_facts_of_this_machine(tmp_path):
    """Modules that are there and not, folders that are there and not."""
    (tmp_path / "config.json").write_text("{}")
    facts = node_facts([str(tmp_path), str(tmp_path / "no")], ["json", "nosuchmodule"])
    assert facts.missing == ["nosuchmodule"]
    assert facts.folders == {str(tmp_path): {"config.json": 2}, str(tmp_path / "no"): None}


def options(**changes):
    from pathlib import Path

    return RolloutOptions(checkpoint="x", data=Path("d"), runs_dir=Path("r"), **changes)


def test_hugging_face_gets_its_batches_and_vllm_many_small_blocks():
    """Batches as on one machine; vLLM always has more at hand than it runs."""
    pace = pace_of(options(engine="hf", batch_size=5), on_gpu=False)
    assert (pace.block, pace.at_once) == (5, 1) and pace.held > 1
    for given, most in (({}, 128), ({"max_num_seqs": "64"}, 64), ({"max_num_seqs": "3"}, 3)):
        pace = pace_of(options(engine="vllm", engine_args=given), on_gpu=True)
        assert pace.block * pace.at_once > most and pace.held >= pace.at_once


def test_hugging_face_decodes_on_cpus():
    """The other engine is chosen by itself on GPUs alone."""
    assert choose_inner(on_gpu=False) == "hf"


ENTRY = "from coordeval.cli.app import main; main()"


def rollout(*arguments, before=""):
    """The command line in a process of its own, after some Python."""
    return subprocess.run(
        [sys.executable, "-c", before + ENTRY, "rollout", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )


def test_missing_ray_is_told_with_the_extra(checkpoint_dir, image_dataset, tmp_path):
    """Exit code 2 and what to install."""
    out = tmp_path / "run"
    arguments = (checkpoint_dir, "--data", image_dataset, "--engine", "ray", "--out", out)
    done = rollout(*arguments, before="import sys; sys.modules['ray'] = None; ")
    assert done.returncode == 2, done.stderr
    assert "coordeval[ray]" in done.stderr and "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "hf", "--replicas", "2"), "--engine ray"),
        (("--engine", "hf", "--ray-address", "auto"), "--engine ray"),
        (("--engine", "hf", "--inner", "vllm"), "--engine ray"),
        (("--engine", "ray", "--data-parallel", "2"), "--replicas"),
        (("--engine", "ray", "--server-url", "http://x:1"), "--engine server"),
        (("--engine", "ray", "--ray-address", "ray://x:1"), "ray job submit"),
        (("--engine", "ray", "--ray-address", "nowhere"), "HOST:PORT"),
    ],
)
def test_what_has_no_meaning_is_refused(checkpoint_dir, image_dataset, tmp_path, arguments, words):
    """Exit code 2, one line, no run directory."""
    out = tmp_path / "run"
    done = rollout(checkpoint_dir, "--data", image_dataset, "--out", out, *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not out.exists()
