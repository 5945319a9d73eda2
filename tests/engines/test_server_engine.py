"""Promises about rollouts from a server, against a real HTTP server that may misbehave."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import json
import signal
import sys
import threading
import time
import tracemalloc
from email.utils import formatdate

import numpy as np
import pytest
from PIL import Image
from server_double import TEXT, ServerDouble, completion, dead_url, wait_until

pytest.importorskip("httpx")

from coordeval.data.pixels import PixelLimits
from coordeval.data.prompts import Prompt, default_prompt
from coordeval.engines.base import DecodeSettings, Engine
from coordeval.engines.runner import make_requests, run_rollouts
from coordeval.engines.server import ServerEngine
from coordeval.engines.server_address import parse_address
from coordeval.engines.server_retry import RetryPolicy
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import dialect_named
from coordeval.records import Sample
from coordeval.runs import open_run

DIALECT = dialect_named("coordjson")
PROMPT = default_prompt(dialect=DIALECT)
GREEDY = DecodeSettings(max_new_tokens=64)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Twelve noise images as samples."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    samples = []
    for index in range(12):
        path = folder / f"{index}.png"
        Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
        samples.append(
            Sample(
                id=f"im{index}", image=path.name, width=40, height=30, objects=(), image_path=path
            )
        )
    return samples


def make_engine(url, decode=GREEDY, **options):
    arguments = {
        "prompt": PROMPT,
        "decode": decode,
        "dialect": DIALECT,
        "policy": RetryPolicy(retries=2, backoff_s=0.005),
        "timeout_s": 5.0,
        "concurrency": 4,
    }
    return ServerEngine(address=parse_address(url), **(arguments | options))


def run(engine, samples, decode=GREEDY):
    """All rollouts by key; every request must be answered once."""
    requests = make_requests(samples, decode)
    found = {}
    for batch in engine.generate(requests):
        assert batch
        for rollout in batch:
            key = rollout.id, rollout.sample_index
            assert key not in found
            found[key] = rollout
    assert set(found) == {request.key for request in requests}
    return found


def errors(rollouts):
    return {key: rollout.error for key, rollout in rollouts.items() if rollout.error is not None}


def test_a_server_is_an_engine():
    """It satisfies the protocol, and says what it is without an exchange."""
    engine = make_engine(dead_url())
    assert isinstance(engine, Engine)
    assert engine.describe()["identity"] == {"name": "server"}
    assert engine.vocabulary() is None
    assert list(engine.generate([])) == []
    engine.close()
    engine.close()


def test_answers_become_rollout_lines(pictures):
    """Text, ids, log-probabilities, end and prompt length are those of the answer."""
    with ServerDouble() as server:
        engine = make_engine(server.url)
        rollouts = run(engine, pictures)
        described = engine.describe()
    for rollout in rollouts.values():
        assert (rollout.text, rollout.finish_reason, rollout.error) == (TEXT, "stop", None)
        assert rollout.token_ids == [ord(character) for character in TEXT] + [3]
        assert rollout.token_logprobs == [-0.25] * (len(TEXT) + 1)
        assert rollout.prompt_tokens == 7
        assert rollout.seconds >= 0
    assert described["environment"]["model"] == "tiny"
    assert described["versions"]["server"] == "0.32.0"


def test_a_length_answer_keeps_its_last_token(pictures):
    """An answer that was cut at the limit has no end token to lose."""
    decode = DecodeSettings(max_new_tokens=4)
    steps = [{"token": f"token_id:{i}", "logprob": -1.0} for i in (5, 6, 7, 8)]
    answer = completion(
        message={"content": "abcd"},
        token_ids=[5, 6, 7, 8],
        logprobs={"content": steps},
        finish_reason="length",
    )
    with ServerDouble(lambda *_: answer) as server:
        rollouts = run(make_engine(server.url, decode), pictures[:1], decode)
    rollout = rollouts["im0", 0]
    assert (rollout.text, rollout.finish_reason) == ("abcd", "length")
    assert rollout.token_ids == [5, 6, 7, 8]


def test_an_answer_cut_short_by_the_server_is_an_error(pictures):
    """A server whose sequences are shorter than the token limit does not pass for the limit."""
    answer = completion(finish_reason="length")
    with ServerDouble(lambda *_: answer) as server:
        rollouts = run(make_engine(server.url), pictures[:1])
    assert "max-model-len" in rollouts["im0", 0].error


def test_pixels_arrive_as_they_are(pictures):
    """The image is sent as PNG: every pixel of every image, in the order of the prompt."""
    with ServerDouble() as server:
        run(make_engine(server.url), pictures)
        bodies = server.bodies
    sent = set()
    for body in bodies:
        (message,) = body["messages"]
        image_part, text_part = message["content"]
        assert text_part == {"type": "text", "text": PROMPT.user}
        head, _, data = image_part["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            sent.add(image.tobytes())
    expected = set()
    for sample in pictures:
        with Image.open(sample.image_path) as image:
            expected.add(image.tobytes())
    assert sent == expected


def test_the_prompt_is_sent_as_it_is(pictures):
    """System text, order of image and text, and template arguments go along."""
    prompt = Prompt(
        name="mine",
        version="user",
        system="be brief",
        user="find",
        image_first=False,
        chat_template_kwargs={"enable_thinking": False},
    )
    with ServerDouble() as server:
        run(make_engine(server.url, prompt=prompt), pictures[:1])
        body = server.bodies[0]
    system, user = body["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_every_decode_setting_is_sent(pictures):
    """Nothing is left to the server's own defaults; samples have their own heat and seed."""
    decode = DecodeSettings(
        max_new_tokens=17, top_p=0.9, top_k=5, repetition_penalty=1.2, samples=2, seed=3
    )
    with ServerDouble() as server:
        run(make_engine(server.url, decode), pictures[:3], decode)
        bodies = server.bodies
    greedy = [body for body in bodies if body["temperature"] == 0]
    sampled = [body for body in bodies if body["temperature"] == 0.7]
    assert len(greedy) == len(sampled) == 3
    assert len({body["seed"] for body in sampled}) == 3
    for body in sampled:
        assert (body["top_p"], body["top_k"]) == (0.9, 5)
    for body in bodies:
        assert body["max_tokens"] == 17
        assert body["repetition_penalty"] == 1.2
        assert body["skip_special_tokens"] is False
        assert body["return_token_ids"] is True
        assert body["logprobs"] is True
        assert (body["presence_penalty"], body["frequency_penalty"], body["min_p"]) == (0, 0, 0)
        assert body["model"] == "tiny"


def test_pixel_limits_are_sent(pictures):
    """Without a local image processor the limits go to the server's."""
    with ServerDouble() as server:
        run(make_engine(server.url, pixels=PixelLimits(max_pixels=5000)), pictures[:1])
        assert len(server.bodies) == 2  # a trial first
        for body in server.bodies:
            assert body["mm_processor_kwargs"]["size"]["longest_edge"] == 5000
    with ServerDouble() as server:
        run(make_engine(server.url), pictures[:1])
        assert "mm_processor_kwargs" not in server.bodies[0]


def test_a_server_that_refuses_pixel_limits_is_told_of_at_once():
    """VLLM takes such settings only where it was started to; the flag is named."""

    def reply(handler, body, number):
        handler.send('{"error": {"message": "disabled by default"}}', 400)

    with ServerDouble(reply) as server, pytest.raises(ConfigError, match="--trust-request-mm"):
        make_engine(server.url, pixels=PixelLimits(max_pixels=5000)).connect()


def test_concurrency_is_bounded_and_used(pictures):
    """As many requests are under way as asked for, and never more."""

    def reply(handler, body, number):
        time.sleep(0.05)
        return completion()

    with ServerDouble(reply) as server:
        run(make_engine(server.url, concurrency=3), pictures)
        assert server.most_busy == 3


def test_rollouts_come_as_they_finish(pictures):
    """A slow answer holds nobody up, and images are read only when their turn comes."""
    gate = threading.Event()

    def reply(handler, body, number):
        if number == 0:
            assert gate.wait(10)
        return completion()

    with ServerDouble(reply) as server:
        stream = make_engine(server.url, concurrency=2).generate(make_requests(pictures, GREEDY))
        early = []
        while len(early) < len(pictures) - 1:
            early += next(stream)
        gate.set()
        late = [rollout for batch in stream for rollout in batch]
    assert len(early) + len(late) == len(pictures)


def test_closing_the_stream_stops_asking(pictures):
    """A caller who stops listening leaves no request behind; the engine can be asked again."""

    def reply(handler, body, number):
        time.sleep(0.02)
        return completion()

    with ServerDouble(reply) as server:
        engine = make_engine(server.url, concurrency=1)
        stream = engine.generate(make_requests(pictures, GREEDY))
        next(stream)
        stream.close()
        wait_until(lambda: server.busy == 0)
        asked = len(server.bodies)
        assert asked < len(pictures)
        assert not any(item.name == "coordeval-server" for item in threading.enumerate())
        time.sleep(0.05)
        assert len(server.bodies) == asked
        assert not errors(run(engine, pictures))


def test_a_signal_reaches_the_caller_while_the_server_is_silent(pictures):
    """Waiting for an answer does not hold signals up."""

    class Stop(BaseException):
        pass

    def stop(*_):
        raise Stop

    with ServerDouble(lambda handler, *_: handler.hang()) as server:
        stream = make_engine(server.url, timeout_s=30.0).generate(make_requests(pictures, GREEDY))
        previous = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(Stop):
                next(stream)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)


def test_a_missing_image_is_an_error_line(pictures):
    """It costs only itself, and is not asked for."""
    broken = dataclasses.replace(pictures[0], image_path=pictures[0].image_path.parent / "no.png")
    other_size = dataclasses.replace(pictures[1], width=41)
    with ServerDouble() as server:
        rollouts = run(make_engine(server.url), [broken, other_size, *pictures[2:]])
        assert len(server.bodies) == len(pictures) - 2
    assert set(errors(rollouts)) == {("im0", 0), ("im1", 0)}


def once(misbehave):
    """Misbehave on the first try of every image, then answer."""
    seen = set()

    def reply(handler, body, number):
        image = body["messages"][-1]["content"][0]["image_url"]["url"]
        if image in seen:
            return completion()
        seen.add(image)
        return misbehave(handler)

    return reply


PASSING = {
    "500": lambda handler: handler.send('{"error": {"message": "boom"}}', 500),
    "502 in HTML": lambda handler: handler.send("<html>bad gateway</html>", 502),
    "503": lambda handler: handler.send("", 503),
    "429": lambda handler: handler.send("{}", 429, Retry_After="0"),
    "429 with a date": lambda handler: handler.send("{}", 429, Retry_After=formatdate(time.time())),
    "429 with nonsense": lambda handler: handler.send("{}", 429, Retry_After="soon"),
    "408": lambda handler: handler.send("", 408),
    "reset": lambda handler: handler.reset(),
    "HTML": lambda handler: handler.send("<html>hello</html>"),
    "half a JSON": lambda handler: handler.send('{"choices": [{"mess'),
    "empty": lambda handler: handler.send(""),
    "no choices": lambda handler: {"object": "chat.completion"},
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_asked_again(pictures, fault):
    """One fault per request costs a second try and nothing else."""
    with ServerDouble(once(PASSING[fault])) as server:
        rollouts = run(make_engine(server.url), pictures[:5])
        assert len(server.bodies) == 10
    assert not errors(rollouts)
    assert {rollout.text for rollout in rollouts.values()} == {TEXT}


def test_a_short_body_is_asked_again(pictures):
    """A connection that closes before the promised length is a broken one."""

    def cut(handler):
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "9999")
        handler.end_headers()
        handler.wfile.write(b'{"choices": [')

    with ServerDouble(once(cut)) as server:
        assert not errors(run(make_engine(server.url), pictures[:3]))
        assert len(server.bodies) == 6


GARBAGE = {
    "not JSON": ("nonsense", "not JSON"),
    "a list": ("[]", "completion"),
    "null": ("null", "completion"),
    "deeply nested": ("[" * 5000, "JSON"),
    "no choices": ("{}", "choices"),
    "choices of another type": ('{"choices": "x"}', "choices"),
    "empty choices": ('{"choices": []}', "choices"),
    "no message": ('{"choices": [{"finish_reason": "stop"}]}', "message"),
    "content is a number": (json.dumps(completion(message={"content": 5})), "content"),
    "token ids are text": (json.dumps(completion(token_ids=["a"])), "token_ids"),
    "token ids are floats": (json.dumps(completion(token_ids=[1.5])), "token_ids"),
    "token ids are bools": (json.dumps(completion(token_ids=[True])), "token_ids"),
    "token ids are negative": (json.dumps(completion(token_ids=[-1])), "token_ids"),
    "token ids are huge": (json.dumps(completion(token_ids=[1 << 40])), "token_ids"),
    "more ids than logprobs": (json.dumps(completion(token_ids=[1, 2, 3])), "logprobs"),
    "logprobs are text": (
        json.dumps(completion(logprobs={"content": [{"token": "x", "logprob": "low"}]})),
        "log-probability",
    ),
    "logprobs are null": (
        json.dumps(completion(logprobs={"content": [{"token": "x", "logprob": None}]})),
        "log-probability",
    ),
    "logprobs are NaN": (
        json.dumps(completion()).replace("-0.25", "NaN", 1),
        "JSON",
    ),
    "logprobs above 0": (json.dumps(completion()).replace("-0.25", "0.5", 1), "above 0"),
    "no finish reason": (json.dumps(completion(finish_reason=None)), "finish_reason"),
    "a strange finish reason": (json.dumps(completion(finish_reason="tired")), "tired"),
    "aborted": (json.dumps(completion(finish_reason="abort")), "abort"),
    "a finish reason that is a number": (json.dumps(completion(finish_reason=1)), "finish_reason"),
    "more tokens than asked for": (json.dumps(completion("x" * 100)), "64"),
    "reasoning apart": (
        json.dumps(completion(message={"content": "", "reasoning": "hm"})),
        "reasoning",
    ),
    "tool calls": (json.dumps(completion(message={"tool_calls": [{}]})), "tool_calls"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_an_error_line_after_the_retries(pictures, kind):
    """Whatever the server says instead of an answer, the line tells what was wrong with it."""
    text, words = GARBAGE[kind]
    with ServerDouble(lambda handler, *_: handler.send(text)) as server:
        rollouts = run(make_engine(server.url), pictures[:1])
        assert len(server.bodies) == 3
    rollout = rollouts["im0", 0]
    assert (rollout.finish_reason, rollout.text) == ("error", "")
    assert words in rollout.error
    assert "\n" not in rollout.error


def test_a_huge_answer_is_cut_off_and_not_asked_for_again(pictures):
    """An answer far beyond what was asked for is not read to its end."""
    written = []

    def reply(handler, body, number):
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b" " * (1 << 20))
            written.append(number)

    with ServerDouble(reply) as server:
        rollouts = run(make_engine(server.url), pictures[:1])
        assert len(server.bodies) == 1
    assert "larger than" in rollouts["im0", 0].error
    assert len(written) < 100


def packed(size, times):
    """Zeros as a server may send them: `times` times through gzip, and the header for that."""
    data = bytes(size)
    for _ in range(times):
        data = gzip.compress(data)
    return data, ", ".join(["gzip"] * times)


@pytest.mark.parametrize(("times", "words"), [(1, "larger than"), (2, "not asked for")])
def test_a_packed_answer_unpacks_to_no_more_than_a_plain_one(pictures, times, words):
    """Of an answer that is packed, once or many times over, no more is unpacked than may be sent."""
    data, encoding = packed(96 << 20, times)

    def reply(handler, body, number):
        handler.send(data, Content_Encoding=encoding)

    with ServerDouble(reply) as server:
        engine = make_engine(server.url)
        engine.connect()
        tracemalloc.start()
        rollouts = run(engine, pictures[:1])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert words in rollouts["im0", 0].error
    assert peak < 24 << 20


def test_an_honest_packed_answer_is_read(pictures):
    """Servers behind a gateway may pack what they say; nothing but gzip is asked for."""

    def reply(handler, body, number):
        handler.send(gzip.compress(json.dumps(completion()).encode()), Content_Encoding="gzip")

    with ServerDouble(reply) as server:
        rollouts = run(make_engine(server.url), pictures[:1])
        assert {headers["Accept-Encoding"] for headers in server.headers} == {"gzip"}
    assert rollouts["im0", 0].text == TEXT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302, 307])
def test_a_refusal_is_not_asked_again(pictures, status):
    """What the server does not want is an error line at once, with its own words."""

    def reply(handler, body, number):
        text = '{"error": {"message": "I do not want this"}}'
        handler.send(text, status, Location="http://127.0.0.1:1/")

    with ServerDouble(reply) as server:
        rollouts = run(make_engine(server.url), pictures)
        assert len(server.bodies) == len(pictures)
    for message in errors(rollouts).values():
        assert f"HTTP {status}" in message and "I do not want this" in message
    assert len(errors(rollouts)) == len(pictures)


def test_retries_are_bounded(pictures):
    """A request that always fails is given up after its retries, and the others go on."""

    def reply(handler, body, number):
        image = body["messages"][0]["content"][0]["image_url"]["url"]
        return handler.send("", 500) if image == unlucky[0] else completion()

    unlucky = [None]
    with ServerDouble() as server:
        run(make_engine(server.url), pictures[:1])
        unlucky[0] = server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    with ServerDouble(reply) as server:
        rollouts = run(make_engine(server.url), pictures)
        assert len(server.bodies) == len(pictures) - 1 + 3
    assert set(errors(rollouts)) == {("im0", 0)}


def test_a_silent_server_is_given_up_in_time(pictures):
    """No answer within the time limit, also where bytes trickle, is a failure like any other."""

    def trickle(handler, body, number):
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.02):
            handler.wfile.write(b" ")

    policy = RetryPolicy(retries=1, backoff_s=0.005)
    for reply in (lambda handler, *_: handler.hang(), trickle):
        with ServerDouble(reply) as server:
            engine = make_engine(server.url, timeout_s=0.2, policy=policy)
            rollouts = run(engine, pictures[:2])
            assert len(server.bodies) == 4
        assert len(errors(rollouts)) == 2
        assert all(
            "0.2 s" in message or "in time" in message for message in errors(rollouts).values()
        )


def test_a_server_that_is_away_makes_error_lines(pictures):
    """Every request gets its line, and the address is told once."""
    notes = []
    engine = make_engine(dead_url(), notify=notes.append)
    rollouts = run(engine, pictures)
    assert len(errors(rollouts)) == len(pictures)
    assert len(notes) == 1


def test_a_server_that_dies_is_not_asked_for_ever(pictures):
    """Finished rollouts are kept, and after some failures in a row the rest is not asked for."""

    def reply(handler, body, number):
        return completion() if number < 3 else handler.reset()

    many = [dataclasses.replace(pictures[0], id=f"many{index}") for index in range(200)]
    with ServerDouble(reply) as server:
        rollouts = run(make_engine(server.url), many)
        asked = len(server.bodies)
    assert len(errors(rollouts)) == 197
    assert asked < 60
    assert sum("not asked" in message for message in errors(rollouts).values()) > 150


def test_single_failures_do_not_count_as_death(pictures):
    """A server that answers now and then is asked to the end, however often it fails."""

    def reply(handler, body, number):
        return completion() if number % 3 == 0 else handler.send("", 500)

    many = [dataclasses.replace(pictures[0], id=f"many{index}") for index in range(60)]
    with ServerDouble(reply) as server:
        engine = make_engine(
            server.url, concurrency=1, policy=RetryPolicy(retries=0, backoff_s=0.005)
        )
        rollouts = run(engine, many)
        assert len(server.bodies) == 60
    assert len(errors(rollouts)) == 40


def roll(engine, samples, out, **options):
    identity = {"engine": engine.describe()["identity"], "checkpoint": {"name": "tiny"}}
    return run_rollouts(
        engine,
        samples,
        out=out,
        identity=identity,
        extra={
            "environment": engine.describe()["environment"],
            "versions": engine.describe()["versions"],
        },
        decode=GREEDY,
        dialect=DIALECT,
        **options,
    )


def test_a_run_survives_the_death_of_its_server(pictures, tmp_path):
    """Exit code 3 with what was finished kept; redoing the error lines at another port completes."""

    def reply(handler, body, number):
        return completion() if number < 5 else handler.reset()

    with ServerDouble(reply) as server:
        first = roll(make_engine(server.url), pictures, tmp_path / "run")
    assert first.exit_code() == 3
    assert first.counts["errors"] == 7
    kept = {
        rollout.id
        for rollout in open_run(tmp_path / "run").rollouts()
        if rollout.finish_reason == "stop"
    }
    assert len(kept) == 5
    again = roll(make_engine(dead_url()), pictures, tmp_path / "run", retry_errors=True)
    assert (again.exit_code(), again.counts["errors"]) == (3, 7)
    with ServerDouble() as server:
        last = roll(make_engine(server.url), pictures, tmp_path / "run", retry_errors=True)
        assert len(server.bodies) == 7
    assert (last.exit_code(), last.counts["errors"], last.counts["finished"]) == (0, 0, 12)


def test_the_key_is_sent_and_never_told(pictures, tmp_path, monkeypatch):
    """It stands in the header alone: not in the run, nor in messages, though a server repeats it."""
    key = "sk-secret-0123456789"

    def reply(handler, body, number):
        said = "x" * (number * 7) + f"the key Bearer {key} is spent"  # cut anywhere
        statuses = {0: 401, 1: 500, 2: 429}
        if number % 4 in statuses:
            handler.send(json.dumps({"error": {"message": said}}), statuses[number % 4])
        else:
            handler.send(f"<html>{said}</html>")

    notes = []
    policy = RetryPolicy(retries=0)
    with ServerDouble(reply) as server:
        engine = make_engine(server.url, key=key, notify=notes.append, policy=policy, concurrency=1)
        outcome = roll(engine, pictures, tmp_path / "run")
        assert outcome.counts["errors"] == len(pictures)
        sent = {headers.get("Authorization") for headers in server.headers}
        assert sent == {f"Bearer {key}"}
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert key.encode()[:6] not in path.read_bytes()
    assert key not in json.dumps(engine.describe()) + "".join(notes)


@pytest.mark.parametrize("scheme", ["socks5", "foo"])
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(monkeypatch, scheme):
    """A proxy of the environment that httpx refuses is a configuration fault, not a bug of ours."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:s3cr3t@127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}://user:s3cr3t@127.0.0.1:9")
    with pytest.raises(ConfigError, match="proxy of the environment") as caught:
        make_engine("http://192.0.2.1:8000").connect()
    assert "s3cr3t" not in str(caught.value)


def test_no_key_sends_no_header(pictures):
    """Without a key there is no Authorization header."""
    with ServerDouble() as server:
        run(make_engine(server.url), pictures[:1])
        assert all("Authorization" not in headers for headers in server.headers)


def test_a_redirect_does_not_carry_the_key_away(pictures):
    """The key goes to the address that was given, and nowhere else."""
    with ServerDouble() as other:

        def reply(handler, body, number):
            handler.send("", 307, Location=f"{other.url}/v1/chat/completions")

        with ServerDouble(reply) as server:
            run(make_engine(server.url, key="sk-secret-0123456789"), pictures[:2])
        assert other.paths == []


def test_older_servers_name_ids_beside_the_logprobs(pictures):
    """Without `token_ids` in the answer they are read from the names of the tokens."""
    answer = completion()
    del answer["choices"][0]["token_ids"]
    with ServerDouble(lambda *_: answer) as server:
        rollout = run(make_engine(server.url), pictures[:1])["im0", 0]
    assert rollout.token_ids == [ord(character) for character in TEXT] + [3]


def test_without_ids_the_text_is_enough(pictures):
    """A server that tells only text gives a line with text; nothing is made up."""
    answer = {
        "choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9},
    }
    with ServerDouble(lambda *_: answer) as server:
        rollout = run(make_engine(server.url), pictures[:1])["im0", 0]
    assert (rollout.text, rollout.finish_reason) == (TEXT, "stop")
    assert (rollout.token_ids, rollout.token_logprobs) == (None, None)
    assert rollout.prompt_tokens == 9


@pytest.mark.parametrize(
    ("models", "wanted", "words"),
    [
        ([], None, "nothing"),
        ([{"id": "a"}, {"id": "b"}], None, "'a', 'b'"),
        ([{"id": "a"}], "b", "does not serve 'b' but 'a'"),
    ],
)
def test_a_wrong_model_is_explained(models, wanted, words):
    """What is served is listed, and nothing is asked."""
    with ServerDouble() as server:
        server.models = models
        with pytest.raises(ConfigError, match=words):
            make_engine(server.url, model=wanted).connect()
        assert server.bodies == []


def test_adapters_do_not_hide_the_one_model(pictures):
    """An adapter in the list is no second model, and can be asked for by name."""
    with ServerDouble() as server:
        server.models = [{"id": "base"}, {"id": "lora", "parent": "base"}]
        run(make_engine(server.url), pictures[:1])
        run(make_engine(server.url, model="lora"), pictures[:1])
        assert [body["model"] for body in server.bodies] == ["base", "lora"]


def test_a_server_that_wants_a_key_is_a_configuration_fault():
    """401 for the list of models names the variable to set."""
    with ServerDouble() as server:
        server.refuse_models = lambda handler: handler.send('{"error": "no key"}', 401)
        with pytest.raises(ConfigError, match="COORDEVAL_API_KEY"):
            make_engine(server.url).connect()


def test_a_token_limit_beyond_the_server_is_refused():
    """A server that holds shorter sequences than the token limit is no use."""
    with ServerDouble() as server:
        server.models = [{"id": "tiny", "max_model_len": 64}]
        with pytest.raises(ConfigError, match="max-model-len"):
            make_engine(server.url).connect()


def test_it_works_inside_a_running_event_loop(pictures):
    """A notebook's own loop is no obstacle."""
    import asyncio

    async def main():
        return run(make_engine(server.url), pictures[:2])

    with ServerDouble() as server:
        assert not errors(asyncio.run(main()))
