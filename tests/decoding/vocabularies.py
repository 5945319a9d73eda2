"""Vocabularies for the tests of constraints, and answers drawn at random under a constraint."""

import random

import numpy as np

from coordeval.coords import CoordVocabulary, coord_token
from coordeval.data.canonical import render_text
from coordeval.decoding.token_table import TokenTable
from coordeval.parsers import DIALECTS

CROSSING = (
    *('",', '", ', '", "', '": ', '": [', '": ["', '":"', '":[', "],", "], ", "]}", "]},", "]}, {"),
    *(
        "]}]}",
        "}]}",
        "[]}",
        '{"',
        '{"objects',
        '"objects": [',
        '": [{"',
        '}, {"desc": "',
        '"]',
        '"]}',
    ),
    *(', "', ",  ", ' "', " [", "[[", "[ ", "[1", '["', "]]", "\\u", "\\u00", "\\n", '\\"', "\\\\"),
    *("desc", "bbox", "bbox_2d", '"bbox_2d": [', "poly", "line", "object_1", "object_", "_1", "_2"),
    *(
        "cat",
        " cat",
        "Cat",
        "第",
        "第九",
        "猫",
        "😀",
        "\n",
        "\n    ",
        "\t",
        "\r\n",
        "  ",
        "\u00a0",
        "\u3000",
    ),
    *(
        "\x7f",
        "\u0085",
        "\u200b",
        "\u2028",
        "bbox_3d",
        "null",
        "```json",
        "D83D",
        "dead",
        "\\ud83d",
    ),
)


def table_of(
    pieces, *, shuffled=False, specials=("<|im_end|>", "<|im_start|>", '<|odd "line": [|>')
):
    """A table of all bytes, the given pieces, special tokens (the first ends) and coordinates."""
    texts = [bytes([byte]) for byte in range(256)]
    texts += sorted(
        {piece if isinstance(piece, bytes) else piece.encode() for piece in pieces} - set(texts)
    )
    ordinary = [True] * len(texts) + [False] * (len(specials) + 1001)
    end = len(texts)
    texts += [special.encode() for special in specials]
    first = len(texts)
    order = list(range(1000))
    if shuffled:
        random.Random(5).shuffle(order)
    texts += [coord_token(k).encode() for k in order]
    ids = [0] * 1000
    for offset, k in enumerate(order):
        ids[k] = first + offset
    return TokenTable(
        coords=CoordVocabulary(token_ids=tuple(ids)),
        end_ids=frozenset([end]),
        vocab_size=len(texts) + 1,
        texts=(*texts, b""),
        ordinary=tuple(ordinary),
        bins={token_id: k for k, token_id in enumerate(ids)},
    )


def merged_pieces(seed=0, count=300):
    """Pieces cut at random out of canonical answers, so that they cross every boundary."""
    rng = random.Random(seed)
    pieces = set()
    texts = [
        render_text([("cat", kind, list(range(n))), ("第九 \\ 😀", kind, list(range(n)))], dialect)
        for kind, n in (("bbox_2d", 4), ("poly", 6), ("line", 4))
        for dialect in DIALECTS.values()
        if "token" in dialect.coordinates
    ]
    while len(pieces) < count:
        part = rng.choice(rng.choice(texts).split("<|coord_")).encode().partition(b"|>")
        raw = part[2] or part[0]
        if raw:
            start = rng.randrange(len(raw))
            pieces.add(raw[start : start + rng.randint(1, 24)])
    return pieces


BYTES_ONLY = table_of([])
MIXED = table_of([*CROSSING, *merged_pieces()])
SHUFFLED = table_of([*CROSSING, *merged_pieces(1)], shuffled=True)


def text_of(table, token_ids):
    return b"".join(table.text_bytes(token_id) for token_id in token_ids)


_URGENT = (b'"', b"]", b"}")


def urgency(table):
    """Extra logits for tokens that lead towards the end of an answer."""
    extra = np.zeros(table.vocab_size)
    for token_id in range(table.vocab_size):
        extra[token_id] = 3.0 * table.text_bytes(token_id).startswith(_URGENT)
    for token_id in table.end_ids:
        extra[token_id] = 6.0
    return extra


def write_answer(constraint, table, rng, *, limit=600, eager=1.0):
    """Token ids drawn from random logits under the constraint, and whether they came to an end."""
    extra = eager * urgency(table)
    state = constraint.start()
    token_ids = []
    while len(token_ids) < limit:
        logits = rng.gumbel(size=table.vocab_size) + extra
        allowed = state.allowed()
        assert allowed.any(), f"nothing is allowed after {text_of(table, token_ids)!r}"
        choice = int(np.where(allowed, logits, -np.inf).argmax())
        state.advance(choice)
        if state.finished:
            return token_ids, True
        token_ids.append(choice)
    return token_ids, False


def segmentations(table, text, rng, *, coords=True):
    """Token ids that spell `text`, drawn at random among the vocabulary's tokenisations."""
    by_piece = {}
    for token_id in range(table.vocab_size):
        piece = table.ordinary_bytes(token_id)
        if piece:
            by_piece.setdefault(piece, token_id)
    longest = max(map(len, by_piece))
    coordinate = {table.text_bytes(token_id): token_id for token_id in table.coords.token_ids}
    data, place, out = text.encode(), 0, []
    while place < len(data):
        if coords and data.startswith(b"<|coord_", place):
            stop = data.index(b"|>", place) + 2
            out.append(coordinate[data[place:stop]])
            place = stop
            continue
        border = data.find(b"<|coord_", place) if coords else -1
        room = (border if border >= 0 else len(data)) - place
        sizes = [n for n in range(1, min(longest, room) + 1) if data[place : place + n] in by_piece]
        size = rng.choice(sizes) if rng.random() < 0.5 else max(sizes)
        out.append(by_piece[data[place : place + size]])
        place += size
    return out
