"""The watch over a cluster's head: it strikes where it may, when it must, and not before."""

import os
import signal
import socket
import threading
import time

import pytest

from coordeval.engines import ray_head
from coordeval.engines.ray_head import HeadLost, HeadWatch, head_answers, let_us_speak_first
from coordeval.errors import EXIT_INCOMPLETE

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FAST = {"patience_s": 0.3, "every_s": 0.02}


class Head:
    """Something that begins to speak as a Ray head does."""

    def __init__(self, port=0):
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.asked = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            with line:
                line.recv(100)
                line.sendall(SETTINGS)
            self.asked += 1

    def die(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(timeout=10)


@pytest.fixture
def head():
    made = Head()
    yield made
    if made._server.fileno() >= 0:
        made.die()


@pytest.fixture
def watch(head):
    made = HeadWatch(head.address, **FAST)
    before = signal.getsignal(signal.SIGUSR1)
    yield made
    made.close()
    signal.signal(signal.SIGUSR1, before)


def test_a_wait_without_end_ends_when_the_head_is_lost(head, watch):
    """What blocks in the block is struck, with exit code 3, the address, and how to go on."""
    head.die()
    with pytest.raises(HeadLost) as caught, watch.striking():
        threading.Event().wait(timeout=60)
    assert caught.value.exit_code == EXIT_INCOMPLETE
    text = str(caught.value)
    assert head.address in text
    assert "the same command goes on" in text
    assert "\n" not in text


def test_nothing_is_struck_outside_of_a_block(head, watch):
    """A write between two blocks is never torn; the next block refuses to begin."""
    with watch.striking():
        pass
    head.die()
    written = []
    for number in range(100):
        time.sleep(0.01)
        written.append(number)
    assert written == list(range(100))
    with pytest.raises(HeadLost), watch.striking():
        pytest.fail("the block began")


def test_an_answering_head_is_left_in_peace(head, watch):
    """As long as it answers, a block may take as long as it likes."""
    with watch.striking():
        time.sleep(3 * FAST["patience_s"])
    assert head.asked > 3


def test_a_head_that_comes_back_in_time_is_not_lost(head):
    """A restart within the patience is no end."""
    watch = HeadWatch(head.address, patience_s=5, every_s=0.02)
    try:
        with watch.striking():
            head.die()
            time.sleep(0.2)
            again = Head(head.port)
            while not again.asked:
                time.sleep(0.01)
            time.sleep(0.1)
        again.die()
    finally:
        watch.close()


def test_the_signal_is_given_back(head):
    """After `close` the handler that was there is there again, and nothing is asked any more."""
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        watch = HeadWatch(head.address, **FAST)
        with watch.striking():
            pass
        watch.close()
        watch.close()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
    watch._thread.join(timeout=10)
    assert not watch._thread.is_alive()
    head.die()
    with watch.striking():
        time.sleep(2 * FAST["patience_s"])


def test_other_threads_look_before_they_begin(head, watch):
    """Where no exception can strike, a lost head is told at the next beginning."""
    head.die()
    watch._thread.join(timeout=10)
    told = []

    def enter():
        try:
            with watch.striking():
                told.append("began")
        except HeadLost:
            told.append("refused")

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert told == ["refused"]


def test_own_faults_are_no_sign_of_death(head, monkeypatch):
    """A process without free file handles cannot ask, and takes nobody for dead."""

    def full(address):
        raise OSError(24, "Too many open files")

    assert head_answers(head.address)
    monkeypatch.setattr(ray_head, "first_frame", full)
    assert head_answers("127.0.0.1:1")
    monkeypatch.undo()
    head.die()
    assert not head_answers(head.address)


def test_ray_waits_longer_than_we_do(monkeypatch):
    """Its own end of the process comes after ours, unless somebody set it."""
    name = "RAY_gcs_rpc_server_reconnect_timeout_s"
    monkeypatch.setenv(name, "1")
    monkeypatch.delenv(name)
    let_us_speak_first()
    assert float(os.environ[name]) > 2 * ray_head.PATIENCE_S
    monkeypatch.setenv(name, "7")
    let_us_speak_first()
    assert os.environ[name] == "7"
