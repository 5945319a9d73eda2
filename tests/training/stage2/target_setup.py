"""Rollouts written piece by piece, so that what a target must teach is known beforehand."""

import json
from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st

from coordeval.coords import coord_token, frame_named
from coordeval.engines.hf_loading import Reader
from coordeval.parsers.dialects import dialect_named
from coordeval.records import GroundTruthObject, Rollout, Sample
from coordeval.training.data.labels import (
    COORDINATE,
    DESCRIPTION,
    END,
    IGNORE,
    IGNORE_LABEL,
    STRUCTURE,
)
from coordeval.training.stage2.config import ChannelBConfig
from coordeval.training.stage2.targets import TargetContext
from coordeval.training.tiny.model import tiny_tokenizer

TOKENIZER = tiny_tokenizer(["red circle", "green square"])
END_ID = TOKENIZER.eos_token_id
READER = Reader(
    tokenizer=TOKENIZER,
    image_processor=None,
    image_token_id=TOKENIZER.convert_tokens_to_ids("<|image_pad|>"),
    end_ids=frozenset({END_ID, TOKENIZER.pad_token_id}),
    pad_id=TOKENIZER.pad_token_id,
)
FRAME = frame_named("coordexp")
BASE = TargetContext.for_reader(
    READER, dialect=dialect_named("coordjson"), frame=FRAME, config=ChannelBConfig()
)
TABLE = BASE.table
SIDE = 1000  # pixels equal bins in this frame


def context(dialect="coordjson", field_order="desc_first", order="sorted", seed=0, **config):
    """The context of the tiny tokenizer; `config` are fields of ChannelBConfig."""
    return replace(
        BASE,
        dialect=dialect_named(dialect, field_order=field_order),
        config=ChannelBConfig(**config),
        order=order,
        seed=seed,
    )


def box(desc, *bins, crowd=False, kind="bbox_2d"):
    """A true object whose pixels are these bins."""
    return GroundTruthObject(desc, kind, tuple(map(float, bins)), crowd)


def sample(*objects):
    """A sample of 1000 x 1000 pixels."""
    return Sample(id="s", image="s.png", width=SIDE, height=SIDE, objects=tuple(objects))


def ids_of(text):
    """Ids as a model would write the text; what looks like a special token is one."""
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def rollout(text, ids=None, *, finish="stop", error=None):
    """A rollout of a text; without `ids` those of the text, closed by the end token at `stop`."""
    if ids is None:
        ids = ids_of(text) + [END_ID] * (finish == "stop")
    return Rollout(
        id="s",
        width=SIDE,
        height=SIDE,
        gt=(),
        text=text,
        token_ids=ids,
        finish_reason=finish,
        error=error,
    )


def _bytes_of_vocabulary():
    alphabet = [*range(33, 127), *range(161, 173), *range(174, 256)]
    codes = alphabet + [256 + n for n in range(256 - len(alphabet))]
    values = alphabet + [byte for byte in range(256) if byte not in alphabet]
    byte_of = {chr(code): value for code, value in zip(codes, values, strict=True)}
    added = {number: text for text, number in TOKENIZER.get_added_vocab().items()}
    return [
        added[token_id].encode()
        if token_id in added
        else bytes(byte_of[c] for c in TOKENIZER.convert_ids_to_tokens(token_id))
        for token_id in range(len(TOKENIZER))
    ]


BYTES = _bytes_of_vocabulary()
BYTE_IDS = {piece: token_id for token_id, piece in enumerate(BYTES) if len(piece) == 1}
ADDED_IDS = frozenset(TOKENIZER.get_added_vocab().values())


def bytes_of(token_ids):
    """The bytes of each token, by the byte alphabet of GPT-2."""
    return [BYTES[token_id] for token_id in token_ids]


def text_of(token_ids):
    """The text of an answer with its end token."""
    return b"".join(bytes_of(token_ids[:-1])).decode()


class Piece(NamedTuple):
    """Characters of one sort: `struct`, `desc`, `coord`, or None for what is not taught.

    `owner` numbers the records; `bin` is what is taught at a coordinate.
    """

    text: str
    sort: str | None
    weight: float = 1.0
    owner: int = -1
    true_desc: bool = True
    bin: int | None = None


def pieces_of(desc, values, dialect, *, owner, struct, desc_weight, true_desc=True, labels=None):
    """A canonical record of a box as pieces; `struct` None: nothing of it is taught."""
    sort = None if struct is None else "struct"

    def own(text, sort=sort, **more):
        return Piece(text, sort, struct or 0.0, owner, **more)

    described = Piece(
        json.dumps(desc, ensure_ascii=False)[1:-1],
        "desc",
        desc_weight if sort else 0.0,
        owner,
        true_desc=true_desc and sort is not None,
    )
    quote = '"' if dialect.coordinates == "quoted_token" else ""
    geometry = [own('"bbox_2d": [')]
    for number, (value, label) in enumerate(zip(values, labels or values, strict=True)):
        geometry.append(own((", " if number else "") + quote))
        taught = "coord" if sort else None
        geometry.append(Piece(coord_token(value), taught, owner=owner, bin=label))
        geometry.append(own(quote))
    geometry.append(own("]"))
    description = [own('"desc": "'), described, own('"')]
    first, second = description, geometry
    if dialect.field_order == "geometry_first":
        first, second = geometry, description
    return [own("{"), *first, own(", "), *second, own("}")]


def expected(pieces, token_ids, end_weight=1.0):
    """(labels, kinds, weights, boxes) that tokens of the joined pieces must have.

    A token belongs to the sort and the owner of its last byte; it is a description only as a whole,
    and not taught where it holds any of its owner's description that is not the true one.
    """
    owner_of = [piece for piece in pieces for _ in piece.text.encode()]
    written = bytes_of(token_ids[:-1])
    assert b"".join(written) == "".join(piece.text for piece in pieces).encode()
    labels, kinds, weights, boxes = [], [], [], {}
    place = 0
    coordinate_ids = {TOKENIZER.convert_tokens_to_ids(coord_token(k)) for k in range(1000)}
    for index, (token_id, piece) in enumerate(zip(token_ids, written, strict=False)):
        touched = owner_of[place : place + len(piece)]
        place += len(piece)
        last = touched[-1]
        label, kind, weight = IGNORE_LABEL, IGNORE, 0.0
        foreign = any(
            p.sort == "desc" and p.owner == last.owner and not p.true_desc for p in touched
        )
        if token_id in coordinate_ids:
            if last.sort == "coord":
                label = TOKENIZER.convert_tokens_to_ids(coord_token(last.bin))
                kind = COORDINATE
                boxes.setdefault(last.owner, []).append(index)
        elif last.sort is not None and not foreign:
            whole = all(p.sort == "desc" for p in touched)
            # A quote that belongs to a taught record carries its weight, whatever came before.
            weight = last.weight if whole or last.sort == "struct" else _struct_of(pieces, last)
            if weight > 0:
                label, kind = token_id, DESCRIPTION if whole else STRUCTURE
        labels.append(label)
        kinds.append(kind)
        weights.append(weight if label != IGNORE_LABEL else 0.0)
    labels.append(END_ID if end_weight else IGNORE_LABEL)
    kinds.append(END if end_weight else IGNORE)
    weights.append(end_weight)
    return labels, kinds, weights, [boxes[owner] for owner in boxes]


def _struct_of(pieces, one):
    return next((p.weight for p in pieces if p.owner == one.owner and p.sort == "struct"), 0.0)


def assert_taught(target, pieces, end_weight=1.0):
    """The target is the text of the pieces, tokenised as training does, and taught as they say."""
    text = "".join(piece.text for piece in pieces)
    assert text_of(target.token_ids) == text
    labels, kinds, weights, boxes = expected(pieces, target.token_ids, end_weight)
    assert target.token_ids[-1] == END_ID
    assert target.labels_T.tolist() == labels
    assert target.kinds_T.tolist() == kinds
    assert target.weights_T.tolist() == weights
    assert target.boxes_M4.tolist() == boxes


# --- scenes of boxes that stand in cells of their own, so that matching is beyond doubt ---

AWKWARD_NAMES = [
    "red circle",
    "第九",
    "猫 🐈‍⬛!",
    "(a)!",
    "]}, {",
    'say "x"',
    "<|coord_7|>",
    "é",
    ",",
]
CELLS = [(x, y) for y in range(0, 900, 120) for x in range(0, 900, 120)]


class Written(NamedTuple):
    """One written record: `true` is the index of the object it finds, None for none."""

    sort: str  # match | other_desc | invented | repeat | dropped
    desc: str
    values: tuple
    true: int | None = None
    text: str | None = None


class Scene(NamedTuple):
    """True objects (desc, bins) in sorted order, and written records in their order."""

    objects: tuple
    written: tuple

    @property
    def missed(self):
        """Indices of the true objects that no record finds."""
        found = {one.true for one in self.written if one.true is not None}
        return [index for index in range(len(self.objects)) if index not in found]

    def sample(self):
        """The sample; its objects in another order than they are written in."""
        return sample(*(box(desc, *bins) for desc, bins in reversed(self.objects)))


names = st.sampled_from(AWKWARD_NAMES)
shifts = st.lists(st.integers(-4, 4), min_size=4, max_size=4)


def _cell_box(cell, shift=(0, 0, 0, 0)):
    x, y = cell
    return tuple(a + b for a, b in zip((x + 10, y + 10, x + 90, y + 90), shift, strict=True))


def _dropped(draw, desc, values):
    """The text of a record that the parser drops."""
    quoted = json.dumps(desc, ensure_ascii=False)
    coords = ", ".join(map(coord_token, values))
    return draw(
        st.sampled_from(
            [
                f'{{"desc": {quoted}, "bbox_3d": [{coords}]}}',
                f'{{"desc": {quoted}, "bbox_2d": [第九, {coords}]}}',
                f'{{"desc": {quoted}, "bbox_2d": [{coords}, {coord_token(3)}]}}',
                f'{{"desc": {quoted}}}',
                f'{{"desc": "", "bbox_2d": [{coords}]}}',
            ]
        )
    )


@st.composite
def scenes(draw, *, drops=True, most=6):
    """Scenes in which every record's fate is known."""
    cells = draw(st.lists(st.sampled_from(CELLS), min_size=0, max_size=most, unique=True))
    cells.sort(key=lambda cell: (cell[1], cell[0]))
    fates = [
        draw(st.sampled_from(["match", "match", "other_desc", "missed", "invented"])) for _ in cells
    ]
    objects, written = [], []
    for cell, fate in zip(cells, fates, strict=True):
        desc = draw(names)
        if fate != "invented":
            objects.append((desc, _cell_box(cell)))
        if fate == "missed":
            continue
        own = _cell_box(cell, draw(shifts))
        index = None if fate == "invented" else len(objects) - 1
        name = desc + "?" if fate == "other_desc" else desc
        written.append(Written(fate, name, own, index))
    written = draw(st.permutations(written))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(written)))
        earlier = [one for one in written[:place] if one.sort != "dropped"]
        if drops and draw(st.booleans()):
            desc, values = draw(names), _cell_box(draw(st.sampled_from(CELLS)))
            one = Written("dropped", desc, values, text=_dropped(draw, desc, values))
        elif earlier:
            one = draw(st.sampled_from(earlier))._replace(sort="repeat", true=None)
        else:
            continue
        written = [*written[:place], one, *written[place:]]
    return Scene(tuple(objects), tuple(written))


def container(dialect, records):
    """The text of a whole answer of record texts."""
    if dialect.container == "list":
        return '{"objects": [' + ", ".join(records) + "]}"
    return "{" + ", ".join(f'"object_{n}": {text}' for n, text in enumerate(records, 1)) + "}"


def record_text(one, dialect):
    """The text of a written record."""
    if one.text is not None:
        return one.text
    parts = pieces_of(one.desc, one.values, dialect, owner=0, struct=1.0, desc_weight=1.0)
    return "".join(piece.text for piece in parts)


def lead(dialect, place):
    """What stands before the record at a place."""
    key = f'"object_{place + 1}": ' if dialect.container == "map" else ""
    return (", " if place else "") + key


def split_at_random(draw, token_ids):
    """Other ids with the same bytes: some ordinary tokens taken apart into bytes."""
    out = []
    for token_id in token_ids:
        if token_id not in ADDED_IDS and draw(st.booleans()):
            piece = BYTES[token_id]
            out += [BYTE_IDS[piece[n : n + 1]] for n in range(len(piece))]
        else:
            out.append(token_id)
    return out
