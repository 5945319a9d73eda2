"""Hostile inputs for the fuzzer: bytes bent at random, and JSON bent where it has meaning.

Everything is drawn from one seeded generator, so that a seed and a number name an input.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

MAX_BYTES = 1 << 16
"""Longer inputs are cut: they would only make executions rare."""
NASTY_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    0.5,
    1e308,
    -1e308,
    5e-324,
    2**31,
    2**63,
    10**30,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "\u202e",
    "../../etc/passwd",
    "<|coord_5|>",
    "=1+1",
    "x" * 300,
    [],
    {},
    [[]],
    [None],
    [1, 2, 3, 4],
    {"a": 1},
    {"format": 1},
)
NASTY_BYTES: tuple[bytes, ...] = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\xe2\x80\xae",
    b"\x1b[31m",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"9" * 40,
    b"9" * 5000,
    b"\\ud800",
    b"\\u0000",
    b"[" * 200,
    b'{"a":' * 200,
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!python/object:os.system ",
    b"!!binary ",
    b"- ",
    b"[[",
    b'"""',
    b"=",
    b"2020-99-99",
    b"_",
    b"0x",
)
ANSWER_PIECES = (
    *'{}[],:"\\ \n',
    '{"objects": [',
    "]}",
    '{"desc": "',
    '"bbox_2d": [',
    '"poly": [',
    "<|coord_5|>",
    "<|coord_999|>",
    "<|coord_1000|>",
    "<|im_end|>",
    "第九",
    "85",
    "null",
    "```json",
    '"object_1": ',
    '"object_2": {',
    '", ',
    "\ud800",
    "\x00",
    '{"desc": "a", "bbox_2d": [<|coord_1|>, <|coord_2|>, <|coord_3|>, <|coord_4|>]}, ',
    '{"bbox_2d": [1, 2, 3, 4], "label": "a"}, ',
    "<box>",
    "<loc0001>",
    "<loc_12>",
    "<|box_start|>",
    "<12><40><310><402>",
    "<ref>",
    "[[001,002,003,004]]",
    "(12,40),(310,402)",
    "cat ; dog",
    "1e5",
    "-",
)


def bend_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to eight edits anywhere: bits flipped, parts cut, doubled, moved, nasty bytes put in."""
    out = bytearray(data[:MAX_BYTES])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        until = min(len(out), at + rng.choice((1, 1, 4, 16, 256)))
        choice = rng.randrange(7)
        if choice == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif choice == 1:
            del out[at:until]
        elif choice == 2:
            out[at:at] = out[at:until] * rng.choice((1, 2, 50))
        elif choice == 3:
            del out[at:]
        elif choice == 4 and out:
            target = rng.randrange(len(out))
            out[target:target] = out[at:until]
        else:
            out[at : until if choice == 5 else at] = rng.choice(NASTY_BYTES)
    return bytes(out[:MAX_BYTES])


def bend_json(data: bytes, rng: random.Random) -> bytes:
    """The same document with some nodes replaced, left out, renamed, doubled or nested deeper.

    Lines are documents of their own. What is no JSON is bent as bytes.
    """
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    candidates = [data] if rng.random() < 0.5 else [lines[at], data]
    for part in candidates:
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            continue
        for _ in range(rng.choice((1, 1, 2, 4))):
            value = _bent(value, rng)
        try:
            text = json.dumps(value, ensure_ascii=rng.random() < 0.7)
        except (ValueError, RecursionError):
            continue
        bent = text.encode("utf-8", "surrogatepass")
        if part is data:
            return bent
        return b"\n".join([*lines[:at], bent, *lines[at + 1 :]])
    return bend_bytes(data, rng)


def _bent(value: Any, rng: random.Random) -> Any:
    """One edit at one place of a document; the document itself is not changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        choice = rng.random()
        if choice < 0.08:
            return {name: value[name] for name in value if name != key}
        if choice < 0.12:
            return {(name if name != key else name + "x"): item for name, item in value.items()}
        return {**value, key: _bent(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        choice = rng.random()
        if choice < 0.1:
            return value[:at] + value[at + 1 :]
        if choice < 0.2:
            return [*value, value[at]]
        return [*value[:at], _bent(value[at], rng), *value[at + 1 :]]
    if rng.random() < 0.05:
        for _ in range(rng.choice((5, 900))):
            value = [value]
        return value
    return rng.choice(NASTY_VALUES)


def bend_answer(data: bytes, rng: random.Random) -> bytes:
    """A model's answer: pieces of answers in any order, among or instead of what stands there."""
    pieces = "".join(rng.choice(ANSWER_PIECES) for _ in range(rng.choice((1, 3, 10, 60))))
    put = pieces.encode("utf-8", "surrogatepass") * rng.choice((1, 1, 1, 20))
    if rng.random() < 0.3:
        return put[:MAX_BYTES]
    at = rng.randrange(len(data) + 1)
    return (data[:at] + put + data[rng.choice((at, min(len(data), at + 20))) :])[:MAX_BYTES]


ANSWER_WORDS = tuple(piece.encode("utf-8", "surrogatepass") for piece in ANSWER_PIECES)

__all__ = [
    "ANSWER_WORDS",
    "MAX_BYTES",
    "NASTY_BYTES",
    "NASTY_VALUES",
    "bend_answer",
    "bend_bytes",
    "bend_json",
]
