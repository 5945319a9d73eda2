"""A real vLLM server on loopback, with our processor loaded, against vLLM in this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rolling import largest_difference, roll

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.engines.capabilities import PROCESSOR_FLAG
from coordeval.errors import ConfigError
from coordeval.parsers import parse
from coordeval.runs import open_run

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

FIXTURES = Path(__file__).parents[2] / "fixtures"
NAME = "ckpt-2400"
FREE = DecodeSettings(max_new_tokens=320)
STOP = GuardSettings(mode="stop")
GRAMMAR = ConstraintSettings(mode="grammar")
UNORDERED = ConstraintSettings(mode="grammar", ordered=False)
BOUND = 1e-4
START_S = 300


class RealServer:
    """`python -m vllm.entrypoints.openai.api_server` in a process group of its own."""

    def __init__(self, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._log, self._process = log, None
        self.start()

    def start(self):
        arguments = [
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--model", str(FIXTURES / NAME), "--served-model-name", "tiny"),
            *("--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "16"),
            *("--enforce-eager", "--kv-cache-memory-bytes", str(64 << 20)),
            *("--limit-mm-per-prompt", '{"image": 1, "video": 0}'),
            *("--structured-outputs-config", '{"backend": "guidance"}'),
            *PROCESSOR_FLAG.split(),
        ]
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TORCHDYNAMO_DISABLE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._wait()

    def _wait(self):
        import httpx

        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise AssertionError(self._log.read_text()[-3000:])

    def kill(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    server = RealServer(tmp_path_factory.mktemp("served") / "server.log")
    yield server
    server.kill()


@pytest.fixture
def engine(served, benches):
    """Makes engines that ask the server; `local=False` knows nothing but its address."""
    from coordeval.engines.server import ServerEngine
    from coordeval.engines.server_address import parse_address

    bench = benches(NAME)

    def make(decode, *, local=True, notes=None, **options):
        known = {"reader": bench.reader}
        made = ServerEngine(
            address=parse_address(served.url),
            prompt=bench.prompt,
            decode=decode,
            dialect=bench.dialect,
            notify=(lambda _: None) if notes is None else notes.append,
            **(known if local else {}),
            **options,
        )
        assert made.connect()
        return made

    return make


@pytest.fixture
def without_processor(monkeypatch):
    """The client takes the server for one that has not loaded our processor."""
    from coordeval.engines import server_probe

    async def nobody(*_):
        return False

    monkeypatch.setattr(server_probe, "_shakes_hands", nobody)


def test_server_and_process_write_the_same(engine, benches, scenes):
    """Tokens, text, ends, prompts and log-probabilities are those of vLLM in this process."""
    notes = []
    asked = engine(FREE, notes=notes)
    assert asked.describe()["versions"]["server"] is not None
    written = roll(asked, scenes, FREE)
    assert largest_difference(roll(benches(NAME).vllm(FREE), scenes, FREE), written) < BOUND
    assert notes == []  # prompt token ids and texts agree


def test_a_name_alone_gives_the_same_texts(engine, scenes):
    """Without the checkpoint's folder the server's own words give the same lines."""
    known = roll(engine(FREE), scenes[:16], FREE)
    assert largest_difference(known, roll(engine(FREE, local=False), scenes[:16], FREE)) < BOUND


def test_images_that_must_be_resized_are_the_same(engine, benches, noise):
    """Images are fitted here: the server sees the pixels that vLLM in this process sees."""
    decode = replace(FREE, max_new_tokens=24)
    notes = []
    written = roll(engine(decode, notes=notes), noise, decode)
    assert largest_difference(roll(benches(NAME).vllm(decode), noise, decode), written) < BOUND
    assert notes == []


def test_samples_and_penalties_are_decoded_by_the_settings(engine, benches, scenes):
    """Seeds, heat, filters and penalties mean the same over HTTP."""
    decode = DecodeSettings(
        max_new_tokens=48, samples=2, top_p=0.95, top_k=50, repetition_penalty=1.1, seed=5
    )
    written = roll(engine(decode), scenes[:6], decode)
    assert largest_difference(roll(benches(NAME).vllm(decode), scenes[:6], decode), written) < BOUND


@pytest.mark.parametrize(
    "control",
    [
        {"constraint": GRAMMAR},
        {"constraint": ConstraintSettings(mode="coords")},
        {"constraint": ConstraintSettings(mode="grammar", sorted_objects=True, max_objects=3)},
        {"guard": STOP},
        {"constraint": GRAMMAR, "guard": STOP},
        {"guard": GuardSettings(mode="mark")},
    ],
    ids=["grammar", "coords", "sorted", "stop", "grammar and stop", "mark"],
)
def test_our_processor_in_the_server_controls_as_in_process(engine, benches, scenes, control):
    """The handshake finds the processor, and what it does is what it does in process."""
    scenes = scenes[:24]
    decode = replace(FREE, **control)
    asked = engine(decode)
    if control != {"guard": GuardSettings(mode="mark")}:
        assert asked.describe()["environment"]["control"] == "processor"
    written = roll(asked, scenes, decode)
    assert largest_difference(roll(benches(NAME).vllm(decode), scenes, decode), written) < BOUND
    if decode.guard.mode == "stop":
        stopped = [one for one in written.values() if one.finish_reason == "loop_guard"]
        assert stopped
        assert all(one.guard["tokens_saved"] == 320 - len(one.token_ids) for one in stopped)


def test_the_guard_of_the_client_stops_where_the_processor_does(
    engine, scenes, without_processor, benches
):
    """Ending the stream gives the lines that a processor would have given."""
    scenes = scenes[:24]
    decode = replace(FREE, guard=STOP)
    asked = engine(decode)
    assert asked.describe()["environment"]["control"] == "client"
    written = roll(asked, scenes, decode)
    assert largest_difference(roll(benches(NAME).vllm(decode), scenes, decode), written) < BOUND
    by_text = roll(engine(decode, local=False), scenes, decode)
    for key, one in written.items():
        assert by_text[key].finish_reason == one.finish_reason
        # By tokens the text ends with the whole token in which the last record closed.
        assert one.text.startswith(by_text[key].text)
        assert len(one.text) - len(by_text[key].text) <= len("}]}, ")


def test_the_servers_grammar_stands_in_for_the_processor(
    engine, benches, scenes, without_processor
):
    """Structured outputs write conforming answers, and change nothing that conforms by itself."""
    scenes, decode = scenes[:40], replace(FREE, constraint=UNORDERED, guard=STOP)
    asked = engine(decode)
    assert asked.describe()["environment"]["control"] == "grammar+client"
    written = roll(asked, scenes, decode)
    free = roll(engine(FREE), scenes, FREE)
    dialect = benches(NAME).dialect
    kept = 0
    for key, one in written.items():
        assert one.finish_reason in {"stop", "length", "loop_guard"}
        reasons = set(parse(one.text, dialect).dropped_by_reason)
        assert reasons <= {"degenerate_box"} | (
            set() if one.finish_reason == "stop" else {"truncated_record"}
        )
        if parse(free[key].text, dialect).conforming and free[key].finish_reason == "stop":
            kept += 1
            assert one.token_ids == free[key].token_ids
    assert kept > 15


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (GRAMMAR, "--no-ordered"),
        (ConstraintSettings(mode="coords"), "--logits-processors"),
        (ConstraintSettings(mode="grammar", ordered=False, sorted_objects=True), "--sorted"),
    ],
)
def test_what_only_the_processor_can_do_is_refused(engine, constraint, words, without_processor):
    """Exit code 2, with the flag to add."""
    with pytest.raises(ConfigError, match=words) as caught:
        engine(replace(FREE, constraint=constraint))
    assert "CoordevalProcessor" in str(caught.value)
    assert caught.value.exit_code == 2


def test_telemetry_comes_over_http(engine, benches, scenes):
    """Slot readings are those of vLLM in process, up to the one token that HTTP leaves out."""
    decode = replace(FREE, telemetry=True)
    written = roll(engine(decode), scenes[:12], decode)
    ours = roll(benches(NAME).vllm(decode), scenes[:12], decode)
    compared = 0
    for key, one in written.items():
        for here, there in zip(one.slots, ours[key].slots, strict=True):
            assert here[:6] == there[:6]
            assert here.coord_mass <= there.coord_mass + 1e-5
            assert here.coord_mass + here.mass_bound >= there.coord_mass - 1e-5
            assert (here.top_bin, here.other_id) == (there.top_bin, there.other_id) or (
                here.other_id is None
            )
            compared += 1
    assert compared > 100


def test_a_server_killed_under_way_costs_only_what_was_open(
    served, benches, scenes, tmp_path, monkeypatch
):
    """Exit code 3, finished rollouts kept; with the server back, --retry-errors completes the run."""
    import typer
    from typer.testing import CliRunner

    from coordeval.cli.rollout import rollout
    from coordeval.engines.server_session import ServerSession

    app = typer.Typer()
    app.command()(rollout)
    run = tmp_path / "run"
    command = [
        *(str(FIXTURES / NAME), "--data", str(FIXTURES / "scenes" / "heldout.jsonl")),
        *("--engine", "server", "--server-url", served.url, "--out", str(run), "--no-score"),
        *("--max-new-tokens", "320", "--concurrency", "4", "--retries", "1"),
    ]
    real = ServerSession.answers

    def killing(self, requests):
        for number, batch in enumerate(real(self, requests)):
            yield batch
            if number == 0:
                served.kill()

    with monkeypatch.context() as patch:
        patch.setattr(ServerSession, "answers", killing)
        assert CliRunner().invoke(app, command).exit_code == 3
    lines = {one.id: one for one in open_run(run).rollouts()}
    kept = {key: one for key, one in lines.items() if one.finish_reason != "error"}
    assert len(lines) == len(scenes)
    assert 0 < len(kept) < len(scenes)
    served.start()
    assert CliRunner().invoke(app, [*command, "--retry-errors"]).exit_code == 0
    written = {(one.id, 0): one for one in open_run(run).rollouts()}
    assert largest_difference(roll(benches(NAME).vllm(FREE), scenes, FREE), written) < BOUND
    for key, one in kept.items():
        assert written[key, 0].seconds == one.seconds  # not asked again
