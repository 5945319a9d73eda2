"""Targets that need no file: a model's answer, and a server's."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from coordeval.errors import CoordevalError
from fuzzing.mutators import ANSWER_WORDS, bend_answer, bend_bytes
from fuzzing.target import FIXTURES, Target

if TYPE_CHECKING:
    from pathlib import Path


@cache
def dump_lines() -> list[bytes]:
    """Rollout lines of every fixture dump, a few of each."""
    lines: list[bytes] = []
    for path in sorted((FIXTURES / "dumps").glob("*.jsonl")):
        lines += path.read_bytes().splitlines()[:6]
    return lines


def _texts() -> list[bytes]:
    return [json.loads(line)["text"].encode("utf-8", "surrogatepass") for line in dump_lines()]


def _parse(data: bytes, _: Path) -> None:
    """Every dialect: nothing is raised, counts reconcile, spans are in order and apart."""
    from coordeval.parsers import parse
    from coordeval.parsers.dialects import DIALECTS, FOREIGN_DIALECTS

    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    for dialect in (DIALECTS | FOREIGN_DIALECTS).values():
        parsed = parse(text, dialect)
        dropped = sum(parsed.dropped_by_reason.values())
        assert parsed.objects_found == parsed.objects_valid + dropped, dialect.name
        end = 0
        for record in sorted(parsed.records, key=lambda item: item.start):
            # Between two commas of another model's dialect a found box may have no text at all.
            least = 0 if dialect.is_foreign else 1
            assert end <= record.start <= record.end - least, (dialect.name, record)
            assert record.end <= len(text), (dialect.name, record)
            end = record.end


def _answer_seeds() -> list[bytes]:
    token = {"token": "token_id:5", "logprob": -0.5, "bytes": [1]}
    step = {**token, "top_logprobs": [token, {"token": "token_id:6", "logprob": -1.5}]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "x"},
        "logprobs": {"content": [step]},
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": [5],
    }
    whole = {"choices": [choice], "usage": {"prompt_tokens": 5}, "prompt_token_ids": [1, 2]}
    text = json.dumps(whole)
    return [text.encode(), text.replace("message", "delta").encode()]


def _answer(data: bytes, _: Path) -> None:
    """A chat completion, and the same bytes as one chunk of a stream."""
    from coordeval.engines.server_answer import ServerAnswer, read_answer
    from coordeval.engines.server_failures import GarbageAnswer
    from coordeval.jsonl import load_json

    try:
        document = load_json(data)
    except ValueError as error:
        raise GarbageAnswer("not JSON") from error
    if '"delta"' in data.decode("utf-8", "replace"):
        answer = ServerAnswer(max_tokens=64)
        answer.add_chunk(document)
        answer.check_complete()
    else:
        answer = read_answer(document, max_tokens=64)
    if len(answer.top) == len(answer.token_ids):
        answer.ranked(3)


def _server_failures() -> tuple[type[Exception], ...]:
    from coordeval.engines.server_failures import ServerFailure

    return (ServerFailure, CoordevalError)


TARGETS = (
    Target(
        name="parser",
        run=_parse,
        seeds=_texts,
        mutators=(bend_answer, bend_bytes),
        weight=6,
        words=ANSWER_WORDS,
    ),
    Target(name="server answer", run=_answer, seeds=_answer_seeds, refuses=_server_failures),
)

__all__ = ["TARGETS", "dump_lines"]
