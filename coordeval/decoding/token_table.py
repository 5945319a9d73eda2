"""What each token of a checkpoint adds to the text, as bytes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.coords import CoordVocabulary, coord_token
from coordeval.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NOT_A_BYTE = "\uffff"  # encodes to no single byte, so that a token which holds it is found out


# Identity is equality: a table is hashed as a cache key, and holds as many pieces as tokens.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenTable:
    """The tokens of one checkpoint as bytes.

    `coords` are the ids of the coordinate tokens, `end_ids` the tokens that end an answer,
    `vocab_size` the width of the logits (the tokenizer's size or more; ids beyond the tokenizer
    have no text). `texts[i]` is what token i adds to the text; `ordinary[i]` says whether it is an
    ordinary token: not special, not added, not a coordinate, not an end. `bins` gives the bin of
    each coordinate token's id.
    """

    coords: CoordVocabulary
    end_ids: frozenset[int]
    vocab_size: int
    texts: tuple[bytes, ...]
    ordinary: tuple[bool, ...]
    bins: dict[int, int]

    @classmethod
    def from_tokenizer(
        cls, tokenizer: Any, *, end_ids: Collection[int], vocab_size: int | None = None
    ) -> TokenTable:
        """Read a Hugging Face tokenizer: byte-level, or pieces with a byte fallback.

        `vocab_size` is by default the tokenizer's own size. Raises CheckpointError where
        coordinate tokens are missing or split, or do not fit into `vocab_size`, and ConfigError
        for a tokenizer whose tokens cannot be turned into bytes.
        """
        coords = CoordVocabulary.from_tokenizer(tokenizer)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        size = max(vocabulary.values()) + 1
        width = size if vocab_size is None else vocab_size
        outside = [k for k, token_id in enumerate(coords.token_ids) if token_id >= width]
        if outside:
            raise CheckpointError(
                f"the model's vocabulary of {width} has no room for {len(outside)} coordinate "
                f"tokens ({coord_token(outside[0])}, ...); mend it with: coordeval vocab expand "
                "BASE OUT"
            )
        added = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()}
        # Tokens named special without being among the added ones (slow tokenizers) count too.
        apart = set(added) | set(tokenizer.all_special_ids) | set(coords.token_ids) | set(end_ids)
        to_bytes = _piece_reader(tokenizer)
        texts = [b""] * width
        ordinary = [False] * width
        for token, token_id in vocabulary.items():
            if token_id >= width:
                continue
            if token_id in apart:
                texts[token_id] = added.get(token_id, token).encode("utf-8", "replace")
            else:
                texts[token_id] = to_bytes(token)
                ordinary[token_id] = bool(texts[token_id])
        return cls(
            coords=coords,
            end_ids=frozenset(int(i) for i in end_ids),
            vocab_size=width,
            texts=tuple(texts),
            ordinary=tuple(ordinary),
            bins={token_id: k for k, token_id in enumerate(coords.token_ids)},
        )

    def text_bytes(self, token_id: int) -> bytes:
        """What the token adds to the text; special and coordinate tokens as they are spelled.

        Ids without text, ids beyond the vocabulary among them, give b"".
        """
        return self.texts[token_id] if 0 <= token_id < self.vocab_size else b""

    def ordinary_bytes(self, token_id: int) -> bytes | None:
        """The same for ordinary tokens; None for special, added, coordinate and end tokens."""
        if 0 <= token_id < self.vocab_size and self.ordinary[token_id]:
            return self.texts[token_id]
        return None

    def bin_of(self, token_id: int) -> int | None:
        """Bin of a coordinate token, None for any other token."""
        return self.bins.get(token_id)


def _piece_reader(tokenizer: Any) -> Callable[[str], bytes]:
    """How the pieces of this tokenizer become bytes, told by its decoder."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    kinds: set[str] = set()
    if decoder is not None:
        kinds = _decoder_kinds(json.loads(decoder.__getstate__()))
    if "ByteLevel" in kinds:
        return _byte_level_reader()
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return _fallback_bytes
    raise ConfigError(
        f"the tokens of this tokenizer ({type(tokenizer).__name__}) cannot be turned into bytes: "
        "decode-time control needs a byte-level tokenizer or one with a byte fallback"
    )


def _decoder_kinds(decoder: dict[str, Any]) -> set[str]:
    kinds = {str(decoder.get("type"))}
    for inner in decoder.get("decoders", ()):
        kinds |= _decoder_kinds(inner)
    return kinds


def _byte_level_reader() -> Callable[[str], bytes]:
    """Reader of pieces in GPT-2's alphabet, in which every byte is one printable character."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table: dict[int, int | str] = {}
    spare = 256
    for byte in range(256):
        if byte in printable:
            table[byte] = byte
            continue
        table[byte] = _NOT_A_BYTE
        table[spare] = byte
        spare += 1

    def read(piece: str) -> bytes:
        try:
            return piece.translate(table).encode("latin-1")
        except UnicodeEncodeError:
            # Such a piece stands for itself: the decoder of byte-level tokenizers does the same.
            return piece.encode("utf-8", "replace")

    return read


def _fallback_bytes(piece: str) -> bytes:
    """Piece of a tokenizer that marks spaces with U+2581 and writes rare bytes as `<0xAB>`."""
    match = _BYTE_TOKEN.fullmatch(piece)
    if match:
        return bytes([int(match.group(1), 16)])
    return piece.replace("\u2581", " ").encode("utf-8", "replace")


__all__ = ["TokenTable"]
