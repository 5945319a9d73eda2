"""Promises about control over HTTP: handshake, streams that are ended, and what is checked again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from server_double import ServerDouble, chunks, completion

pytest.importorskip("httpx")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from coordeval.data.dataset import open_dataset
from coordeval.data.prompts import default_prompt
from coordeval.decoding.guard import LoopGuard
from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.engines.base import DecodeSettings
from coordeval.engines.checkpoint import resolve_checkpoint
from coordeval.engines.control_request import ControlRequest, read_control
from coordeval.engines.hf_inputs import encode_sample, render_prompt
from coordeval.engines.hf_loading import load_reader
from coordeval.engines.runner import make_requests
from coordeval.engines.server import ServerEngine
from coordeval.engines.server_address import parse_address
from coordeval.engines.server_retry import RetryPolicy
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import dialect_named

FIXTURES = Path(__file__).parents[2] / "fixtures"
DIALECT = dialect_named("coordjson")
PROMPT = default_prompt(dialect=DIALECT)
FREE = DecodeSettings(max_new_tokens=400)
STOP = GuardSettings(mode="stop")
RECORD = '{"desc": "cat", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_30|>, <|coord_40|>]}'
LOOP = '{"objects": [' + ", ".join([RECORD] * 9) + "]}"


@pytest.fixture(scope="module")
def reader():
    return load_reader(resolve_checkpoint(str(FIXTURES / "ckpt-2400")))


@pytest.fixture(scope="module")
def scenes():
    return list(open_dataset(FIXTURES / "scenes" / "heldout.jsonl"))[:3]


def make_engine(server, decode, **options):
    arguments = {
        "prompt": PROMPT,
        "dialect": DIALECT,
        "policy": RetryPolicy(retries=1, backoff_s=0.005),
        "timeout_s": 10.0,
        "concurrency": 2,
    }
    return ServerEngine(address=parse_address(server.url), decode=decode, **(arguments | options))


def run(engine, samples, decode):
    requests = make_requests(samples, decode)
    found = [rollout for batch in engine.generate(requests) for rollout in batch]
    assert {(one.id, one.sample_index) for one in found} == {one.key for one in requests}
    return found


def ids_of(reader, text):
    return reader.tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_ids(ids, text="", **choice):
    """A completion of given ids, with a log-probability each."""
    steps = [{"token": f"token_id:{token}", "logprob": -0.5, "top_logprobs": []} for token in ids]
    made = completion(
        message={"content": text}, token_ids=list(ids), logprobs={"content": steps}, **choice
    )
    made["prompt_token_ids"] = None
    return made


def stream_ids(ids, *, finish="stop", per_chunk=1):
    """The same as a stream, with several ids per chunk."""
    for start in range(0, len(ids), per_chunk):
        piece = list(ids[start : start + per_chunk])
        steps = [{"token": f"token_id:{token}", "logprob": -0.5} for token in piece]
        last = start + per_chunk >= len(ids)
        yield {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": "?"},
                    "logprobs": {"content": steps},
                    "token_ids": piece,
                    "finish_reason": finish if last else None,
                }
            ]
        }


def handshake_of(body):
    """The token that a request's handshake asks for, None in other requests."""
    raw = (body.get("vllm_xargs") or {}).get("coordeval")
    return None if raw is None else json.loads(raw).get("handshake")


class Processing(ServerDouble):
    """A server that has our processor: it shakes hands, then replies as told."""

    def __init__(self, reply, forced=lambda token: token):
        def answer(handler, body, number):
            token = handshake_of(body)
            if token is not None:
                return answer_ids([forced(token)], finish_reason="length")
            return reply(handler, body, number)

        super().__init__(answer)

    @property
    def asked(self):
        return [body for body in self.bodies if handshake_of(body) is None]


def unprocessing(reply):
    """A server that has never heard of handshakes."""
    return Processing(reply, forced=lambda token: 5)


def test_a_free_run_shakes_no_hands(reader, scenes):
    """Without control to steer there is no handshake, and no control in the requests."""
    for decode in (FREE, replace(FREE, guard=GuardSettings(mode="mark"))):
        with ServerDouble(lambda *_: answer_ids([*ids_of(reader, LOOP), 447])) as server:
            found = run(make_engine(server, decode, reader=reader), scenes, decode)
            assert len(server.bodies) == len(scenes)
            assert all("vllm_xargs" not in body for body in server.bodies)
        for one in found:
            assert (one.text, one.finish_reason) == (LOOP, "stop")
            assert (one.guard is None) == (decode.guard.mode == "off")
            assert one.guard is None or one.guard["tokens_saved"] == 0


def test_the_processor_is_told_everything(reader, scenes):
    """Constraint, guard, dialect and end tokens arrive as the processor reads them."""
    constraint = ConstraintSettings(mode="grammar", class_names=("cat", '"第九"\\'))
    decode = replace(FREE, constraint=constraint, guard=STOP)
    text = '{"objects": [' + RECORD + "]}"
    with Processing(lambda *_: answer_ids([*ids_of(reader, text), 447])) as server:
        engine = make_engine(server, decode, reader=reader)
        found = run(engine, scenes, decode)
        shaken = [handshake_of(body) for body in server.bodies if handshake_of(body) is not None]
        asked = server.asked
    assert len(set(shaken)) == 2
    assert engine.describe()["environment"]["control"] == "processor"
    for body in asked:
        assert read_control(body["vllm_xargs"]["coordeval"]) == ControlRequest(
            constraint=replace(constraint, ordered=True),
            guard=STOP,
            dialect=DIALECT,
            end_ids=tuple(sorted(reader.end_ids)),
        )
        assert body["stop_token_ids"] == sorted(reader.end_ids)
        assert body["ignore_eos"] is True
        assert body["stream"] is False
    assert {(one.text, one.finish_reason, one.error) for one in found} == {(text, "stop", None)}


def fired(reader, text):
    """Where the guard fires on the tokens of a text."""
    guard = LoopGuard(STOP, DIALECT)
    for count, token in enumerate(ids_of(reader, text), start=1):
        piece = reader.tokenizer.decode([token], skip_special_tokens=False).encode()
        if guard.push(token, piece) is not None:
            return count
    raise AssertionError("the guard did not fire")


def test_what_the_processor_stopped_is_read_as_stopped(reader, scenes):
    """The end token that it forced falls away; what was saved is counted."""
    decode = replace(FREE, guard=STOP)
    at = fired(reader, LOOP)
    kept = ids_of(reader, LOOP)[:at]
    with Processing(lambda *_: answer_ids([*kept, 447])) as server:
        found = run(make_engine(server, decode, reader=reader), scenes, decode)
        assert all(body["stream"] is False for body in server.asked)
    for one in found:
        assert one.finish_reason == "loop_guard"
        assert one.token_ids == kept
        assert len(one.token_logprobs) == at
        assert one.text == LOOP[: len(one.text)]
        assert (one.guard["at"], one.guard["tokens_saved"]) == (at, 400 - at)


@pytest.mark.parametrize("per_chunk", [1, 3, 50])
def test_without_the_processor_the_stream_is_ended_here(reader, scenes, per_chunk):
    """The same line, however the server cuts its chunks; the server is not heard out."""
    decode = replace(FREE, guard=STOP)
    at = fired(reader, LOOP)
    ids = ids_of(reader, LOOP + " " * 300)
    left = []

    def reply(handler, body, number):
        def slowly():
            for count, document in enumerate(stream_ids(ids, per_chunk=per_chunk)):
                left.append(count)
                if count * per_chunk > at + 10:
                    server.released.wait(0.02)
                yield document

        handler.stream(slowly())

    with unprocessing(reply) as server:
        engine = make_engine(server, decode, reader=reader)
        found = run(engine, scenes, decode)
        assert all(body["stream"] is True for body in server.asked)
    assert engine.describe()["environment"]["control"] == "client"
    for one in found:
        assert one.finish_reason == "loop_guard"
        assert one.token_ids == ids_of(reader, LOOP)[:at]
        assert one.guard["tokens_saved"] == 400 - at


def test_a_stream_that_does_not_loop_is_read_to_its_end(reader, scenes):
    """Text, ids and the end are those of the whole answer."""
    decode = replace(FREE, guard=STOP)
    text = '{"objects": [' + RECORD + "]}"
    ids = [*ids_of(reader, text), 447]
    with unprocessing(lambda handler, *_: handler.stream(stream_ids(ids))) as server:
        found = run(make_engine(server, decode, reader=reader), scenes, decode)
    for one in found:
        assert (one.text, one.finish_reason, one.guard) == (text, "stop", None)
        assert one.token_ids == ids
        assert one.token_logprobs == [-0.5] * len(ids)


def test_by_text_alone_the_guard_works_too(scenes):
    """Without a tokenizer the text itself is watched, and counts are characters."""
    decode = replace(FREE, guard=STOP)
    with ServerDouble(lambda handler, *_: handler.stream(chunks(LOOP))) as server:
        found = run(make_engine(server, decode), scenes, decode)
    for one in found:
        assert one.finish_reason == "loop_guard"
        assert len(one.text) == one.guard["at"]
        assert one.token_ids is None  # which of them belong to the text is not known
        assert one.guard["unit"] == "characters"
        assert LOOP.startswith(one.text)
    with ServerDouble(lambda handler, *_: handler.stream(chunks(RECORD))) as server:
        found = run(make_engine(server, decode), scenes, decode)
    assert {(one.text, one.finish_reason) for one in found} == {(RECORD, "stop")}


BREAKS = {
    "half a stream": lambda handler: handler.stream(list(chunks(RECORD))[:9], done=False),
    "no end": lambda handler: handler.stream(list(chunks(RECORD))[:9]),
    "no finish reason": lambda handler: handler.stream(chunks(RECORD, finish=None)),
    "garbage in the middle": lambda handler: handler.stream([*list(chunks(RECORD))[:9], "x"]),
    "an error in the middle": lambda handler: handler.stream(
        [*list(chunks(RECORD))[:9], {"error": {"message": "engine died", "code": 500}}]
    ),
    "nothing": lambda handler: handler.stream([], done=False),
    "no stream": lambda handler: handler.send("<html>"),
    "reset": lambda handler: handler.reset(),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_stream_that_breaks_is_asked_again(scenes, kind):
    """Half an answer is no answer: it is redone, or the line says so."""
    decode = replace(FREE, guard=STOP)
    broken = []

    def once(handler, body, number):
        if len(broken) < 1:
            broken.append(number)
            return BREAKS[kind](handler)
        return handler.stream(chunks(RECORD))

    with ServerDouble(once) as server:
        (one,) = run(make_engine(server, decode), scenes[:1], decode)
    assert (one.text, one.finish_reason, one.error) == (RECORD, "stop", None)
    with ServerDouble(lambda handler, *_: BREAKS[kind](handler)) as server:
        (one,) = run(make_engine(server, decode), scenes[:1], decode)
        assert len(server.bodies) == 2
    assert (one.text, one.finish_reason) == ("", "error")


@pytest.mark.parametrize(
    "constraint",
    [
        ConstraintSettings(mode="coords"),
        ConstraintSettings(mode="grammar"),
        ConstraintSettings(mode="grammar", ordered=False, sorted_objects=True),
    ],
)
def test_what_a_plain_server_cannot_do_is_refused(reader, constraint):
    """Exit code 2 before anything is asked, with the flag to start the server with."""
    decode = replace(FREE, constraint=constraint)
    with unprocessing(lambda *_: completion()) as server:
        with pytest.raises(ConfigError, match="--logits-processors") as caught:
            make_engine(server, decode, reader=reader).connect()
        assert server.asked == []
    assert caught.value.exit_code == 2


def test_one_lucky_token_is_no_handshake(reader):
    """A server that happens to write one of the two tokens is not taken for ours."""
    first = ids_of(reader, "<|coord_0|>")[0]
    decode = replace(FREE, constraint=ConstraintSettings(mode="coords"))
    with (
        Processing(lambda *_: completion(), forced=lambda token: first) as server,
        pytest.raises(ConfigError),
    ):
        make_engine(server, decode, reader=reader).connect()


def test_a_constraint_needs_the_tokenizer():
    """A served name alone does not tell which tokens are coordinates."""
    decode = replace(FREE, constraint=ConstraintSettings(mode="grammar"))
    with Processing(lambda *_: completion()) as server:
        for ordered in (True, False):
            constraint = replace(decode.constraint, ordered=ordered)
            with pytest.raises(ConfigError, match=r"folder|logits-processors"):
                make_engine(server, replace(decode, constraint=constraint)).connect()


UNORDERED = replace(FREE, constraint=ConstraintSettings(mode="grammar", ordered=False))


def test_the_grammar_goes_to_the_servers_own_engine(reader, scenes):
    """Without the processor the language is sent as a grammar of token ids."""
    text = '{"objects": [' + RECORD + "]}"
    with unprocessing(lambda *_: answer_ids([*ids_of(reader, text), 447])) as server:
        engine = make_engine(server, UNORDERED, reader=reader)
        found = run(engine, scenes, UNORDERED)
        grammars = {body["structured_outputs"]["grammar"] for body in server.asked}
    assert len(grammars) == 1
    assert "<[" in grammars.pop()
    assert {(one.text, one.finish_reason) for one in found} == {(text, "stop")}


def test_an_answer_outside_the_grammar_says_so(reader, scenes):
    """A server that ignores the grammar is found out; its text is kept."""
    with unprocessing(lambda *_: answer_ids([*ids_of(reader, "no boxes"), 447])) as server:
        engine = make_engine(server, UNORDERED, reader=reader)
        found = run(engine, scenes, UNORDERED)
    for one in found:
        assert one.finish_reason == "grammar_error"
        assert one.text == "no boxes"
        assert one.error


def test_a_grammar_that_the_server_refuses_is_a_grammar_error(reader, scenes):
    """It is not asked again, and is no reason to take the server for dead."""

    def reply(handler, body, number):
        handler.send('{"error": {"message": "Grammar error: no such rule"}}', 400)

    with unprocessing(reply) as server:
        engine = make_engine(server, UNORDERED, reader=reader)
        found = run(engine, scenes, UNORDERED)
        assert len(server.asked) == len(scenes)
    assert {one.finish_reason for one in found} == {"grammar_error"}
    assert all("no such rule" in one.error for one in found)


def test_an_answer_without_an_end_token_did_not_stop(reader, scenes):
    """`stop` says that the end token was there; under a grammar its lack is the grammar's fault."""
    ids = ids_of(reader, '{"objects": [')
    for decode, reason in ((FREE, "error"), (UNORDERED, "grammar_error")):
        with unprocessing(lambda *_: answer_ids(ids)) as server:
            engine = make_engine(server, decode, reader=reader)
            found = run(engine, scenes, decode)
        assert {one.finish_reason for one in found} == {reason}
        assert all(one.error for one in found)


def test_the_first_end_token_ends_the_answer(reader, scenes):
    """What a server writes behind it is no part of the answer."""
    ids = ids_of(reader, RECORD)
    with ServerDouble(lambda *_: answer_ids([*ids, 447, *ids, 447])) as server:
        found = run(make_engine(server, FREE, reader=reader), scenes, FREE)
    for one in found:
        assert (one.text, one.token_ids) == (RECORD, [*ids, 447])
        assert len(one.token_logprobs) == len(ids) + 1


def test_other_prompts_are_noticed_once(reader, scenes):
    """The server's prompt ids are compared with ours, image tokens included."""
    prompt_ids = render_prompt(reader.tokenizer, PROMPT, reader.image_token_id)

    def replying(change):
        def reply(handler, body, number):
            answer = completion()
            from PIL import Image

            with Image.open(scenes[0].image_path) as image:
                encoded = encode_sample(
                    prompt_ids, image.convert("RGB"), reader.image_processor, reader.image_token_id
                )
            answer["prompt_token_ids"] = change(encoded.prompt_ids)
            answer["choices"][0]["message"]["content"] = reader.tokenizer.decode(
                answer["choices"][0]["token_ids"][:-1]
            )
            return answer

        return reply

    for change, words in (
        (lambda ids: ids, None),
        (lambda ids: [5, *ids], "another prompt"),
        (lambda ids: [*ids, reader.image_token_id], "image tokens"),
    ):
        notes = []
        with ServerDouble(replying(change)) as server:
            run(
                make_engine(server, FREE, reader=reader, notify=notes.append, concurrency=1),
                scenes,
                FREE,
            )
        assert len(notes) == (0 if words is None else 1)
        assert words is None or words in notes[0]


@pytest.mark.parametrize(
    ("kept", "text", "count"),
    [(None, "\u2603", 0), (None, "cat", 1), (-1, "", 0)],
    ids=["equal", "other", "unfinished"],
)
def test_a_text_that_is_not_what_the_ids_say_is_noticed_once(reader, scenes, kept, text, count):
    """A server with another tokenizer is pointed out; an unfinished last character is none."""
    whole = ids_of(reader, "\u2603")
    assert len(whole) > 1
    ids = [*whole, 447] if kept is None else whole[:kept]
    decode = replace(FREE, max_new_tokens=len(ids))
    finish = "stop" if kept is None else "length"
    notes = []
    with ServerDouble(lambda *_: answer_ids(ids, text, finish_reason=finish)) as server:
        run(make_engine(server, decode, reader=reader, notify=notes.append), scenes, decode)
    assert len(notes) == count


def test_another_checkpoints_name_is_noticed(reader, scenes):
    """A server that reads another folder than the one the run is named after is pointed out."""
    for name, count in (("tiny", 0), ("ckpt-2400", 1)):
        notes = []
        with ServerDouble() as server:
            make_engine(server, FREE, label=name, notify=notes.append).connect()
        assert len(notes) == count


def test_slots_come_from_the_ranked_tokens(reader, scenes):
    """Each coordinate place is read from the tokens beside it, the rest is the bound."""
    decode = replace(FREE, telemetry=True)
    text = '{"objects": [' + RECORD + "]}"
    ids = [*ids_of(reader, text), 447]
    first = ids_of(reader, "<|coord_0|>")[0]
    answer = answer_ids(ids)
    for step in answer["choices"][0]["logprobs"]["content"]:
        ranked = [(int(step["token"].split(":")[1]), -0.5), (first + 7, -1.5), (9, -2.5)]
        step["top_logprobs"] = [
            {"token": f"token_id:{token}", "logprob": value} for token, value in ranked
        ]
    with ServerDouble(lambda *_: answer) as server:
        found = run(make_engine(server, decode, reader=reader), scenes, decode)
        assert all(body["top_logprobs"] == 20 for body in server.bodies)
    from math import exp, isclose

    for one in found:
        assert [slot.written_bin for slot in one.slots] == [1, 2, 30, 40]
        for slot in one.slots:
            assert isclose(slot.coord_mass, exp(-0.5) + exp(-1.5))
            assert isclose(slot.mass_bound, 1 - exp(-0.5) - exp(-1.5) - exp(-2.5))
            assert slot.other_id == 9
