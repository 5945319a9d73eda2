"""Promises about `coordeval rollout --engine server` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from server_double import ServerDouble, completion, dead_url
from typer.testing import CliRunner

pytest.importorskip("httpx")

from coordeval.cli.rollout import rollout
from coordeval.errors import CoordevalError
from coordeval.runs import open_run

APP = typer.Typer()
APP.command()(rollout)


def call(*arguments):
    """Exit code and all output; user faults as the main program prints them."""
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    if isinstance(result.exception, CoordevalError):
        return result.exception.exit_code, result.stdout + str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout + result.stderr


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Four images and their dataset, in the working folder."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("COORDEVAL_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    lines = []
    for index in range(4):
        Image.new("RGB", (64, 48), (40 * index, 90, 30)).save(tmp_path / f"{index}.png")
        record = {"id": f"im{index}", "image": f"{index}.png", "width": 64, "height": 48}
        lines.append(json.dumps(record | {"objects": [{"desc": "cat", "bbox_2d": [1, 2, 30, 40]}]}))
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def serve(url, data, *arguments, checkpoint="tiny"):
    return call(
        checkpoint,
        *("--engine", "server", "--server-url", url, "--data", data, "--out", "run"),
        *("--retries", "0", "--timeout", "5", *arguments),
    )


def test_a_served_model_is_rolled_out_and_scored(data):
    """The served name is enough; nothing of the key or of the address gets into the settings."""
    with ServerDouble() as server:
        code, _ = serve(server.url, data)
    assert code == 0
    meta = open_run(data.parent / "run").meta
    assert meta["engine"] == {"name": "server"}
    assert meta["checkpoint"]["name"] == "tiny"
    assert meta["environment"]["url"] == server.url
    assert meta["vocabulary"] is None


def test_a_server_that_is_away_ends_with_3_and_is_made_good_later(data):
    """All lines are errors; the same command with --retry-errors completes at another address."""
    code, output = serve(dead_url(), data, "--no-score")
    assert code == 3
    assert "4 errors" in output
    with ServerDouble(lambda h, b, n: completion() if n < 2 else h.reset()) as server:
        assert serve(server.url, data, "--retry-errors", "--concurrency", "1")[0] == 3
    lines = [one.finish_reason for one in open_run(data.parent / "run").rollouts()]
    assert sorted(lines) == ["error", "error", "stop", "stop"]
    with ServerDouble() as server:
        assert serve(server.url, data, "--retry-errors")[0] == 0
        assert len(server.bodies) == 2


def test_the_key_of_the_environment_is_nowhere_but_in_the_header(data, monkeypatch):
    """Neither output nor any file of the run holds it, though the server repeats it."""
    key = "sk-secret-9876543210"
    monkeypatch.setenv("COORDEVAL_API_KEY", key)

    def reply(handler, body, number):
        handler.send(json.dumps({"error": {"message": f"{key} is spent"}}), 400)

    with ServerDouble(reply) as server:
        code, output = serve(server.url, data)
        assert all(head["Authorization"] == f"Bearer {key}" for head in server.headers)
    assert code == 3
    assert key not in output
    for path in (data.parent / "run").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dtype", "fp32"), "--dtype"),
        (("--device", "cpu"), "--device"),
        (("--attn", "sdpa"), "--attn"),
        (("--tensor-parallel", "2"), "--tensor-parallel"),
        (("--data-parallel", "2"), "--data-parallel"),
        (("--max-model-len", "99"), "--max-model-len"),
        (("--engine-arg", "a=1"), "--engine-arg"),
        (("--adapter", "x"), "--server-model"),
        (("--server-url", "http://me:pw@host"), "plain address"),
        (("--server-model", "other"), "neither a folder here nor"),
        (("--constrain", "grammar"), "--no-ordered"),
        (("--constrain", "grammar", "--no-ordered"), "folder"),
        (("--constrain", "coords"), "CoordevalProcessor"),
    ],
)
def test_what_a_server_cannot_be_asked_is_refused(data, arguments, words):
    """Exit code 2 and one line that says what to do."""
    with ServerDouble() as server:
        code, output = serve(server.url, data, *arguments)
    assert code == 2
    assert words in output
    assert "pw" not in output


def test_another_name_than_the_served_one_is_explained(data):
    """What the server does serve is listed."""
    with ServerDouble() as server:
        code, output = serve(server.url, data, checkpoint="other")
    assert (code, "does not serve 'other' but 'tiny'" in output) == (2, True)


def test_the_engine_needs_an_address(data):
    """Without --server-url it says so."""
    code, output = call("tiny", "--engine", "server", "--data", data)
    assert (code, "--server-url" in output) == (2, True)


FIXTURE = Path(__file__).parents[2] / "fixtures" / "ckpt-300"


def test_a_server_without_our_processor_gets_the_grammar_unordered(data):
    """By default boxes go unordered there, with a warning, and the run's settings say so."""
    with ServerDouble() as server:
        arguments = ("--constrain", "grammar", "--server-model", "tiny", "--no-score")
        _, output = serve(server.url, data, *arguments, checkpoint=FIXTURE)
        refused, why = serve(server.url, data, *arguments, "--ordered", checkpoint=FIXTURE)
        asked = [body for body in server.bodies if "structured_outputs" in body]
    assert "cannot keep boxes ordered" in output
    meta = open_run(data.parent / "run").meta
    assert meta["decode"]["constraint"]["ordered"] is False
    assert len(asked) == 4
    assert all("start:" in body["structured_outputs"]["grammar"] for body in asked)
    assert refused == 2
    assert "CoordevalProcessor" in why


def test_a_server_that_comes_back_without_our_processor_is_refused_by_an_ordered_run(data):
    """What a stored run promises is not given up later: the error names the flag."""
    arguments = ("--constrain", "grammar", "--server-model", "tiny", "--no-score")
    assert serve(dead_url(), data, *arguments, checkpoint=FIXTURE)[0] == 3
    with ServerDouble() as server:
        code, why = serve(server.url, data, *arguments, "--retry-errors", checkpoint=FIXTURE)
    assert code == 2
    assert "ordered" in why
