"""A text made of token ids, with the place of every token in it, by bytes.

A character may be several tokens and a token the end of one record and the beginning of the
next, so places are kept in bytes; nothing is decoded token by token.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordeval.decoding.token_table import TokenTable

_REPLACEMENT = "\ufffd"


class Cut(NamedTuple):
    """A place between two characters that is also one between two tokens.

    `token` is the index of the token behind it, `char` that of the character.
    """

    token: int
    char: int


class TokenText:
    """The text of token ids (T of them), as a tokenizer decodes them in one go.

    Bytes that are no UTF-8 become U+FFFD, one for each maximal part of a character, as everywhere
    else. Tokens without text have no width. No ids give an empty text.
    """

    def __init__(self, token_ids: Sequence[int], table: TokenTable) -> None:
        self.token_ids = [int(token_id) for token_id in token_ids]
        self._table = table
        pieces = [table.text_bytes(token_id) for token_id in self.token_ids]
        self.token_starts = list(accumulate(map(len, pieces), initial=0))
        """First byte of each token, and the number of bytes (T + 1)."""
        self.text, self._char_starts = _decoded(b"".join(pieces))

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.token_ids)

    @property
    def num_bytes(self) -> int:
        """How many bytes the tokens have in all."""
        return self.token_starts[-1]

    def byte_at(self, char: int) -> int:
        """The first byte of a character; the number of bytes for the end of the text."""
        return char if self._char_starts is None else self._char_starts[char]

    def tokens(self, start: int, end: int) -> tuple[int, int]:
        """First token and the one behind the last of those that hold any of `text[start:end]`.

        An empty range holds no token: both are the first token behind its place.
        """
        first_byte, end_byte = self.byte_at(start), self.byte_at(end)
        if first_byte == end_byte:
            place = bisect_left(self.token_starts, first_byte)
            return place, place
        # Of tokens that start at one byte only the last has a width.
        return (
            bisect_right(self.token_starts, first_byte) - 1,
            bisect_left(self.token_starts, end_byte),
        )

    def token_exactly(self, start: int, end: int) -> int | None:
        """The token whose text is exactly `text[start:end]`, None where there is no such one."""
        first, behind = self.tokens(start, end)
        fits = self.token_starts[first : first + 2] == [self.byte_at(start), self.byte_at(end)]
        return first if behind == first + 1 and fits else None

    def cut_before(self, char: int) -> Cut:
        """The last cut at or before a character; the beginning of the text is one."""
        token = bisect_right(self.token_starts, self.byte_at(char)) - 1
        while (found := self._cut(token)) is None:
            token -= 1
        return found

    def cut_after(self, char: int) -> Cut:
        """The first cut at or behind a character; the end of the text is one."""
        token = bisect_left(self.token_starts, self.byte_at(char))
        while (found := self._cut(token)) is None:
            token += 1
        return found

    def cut_before_punctuation(self, char: int, *, not_before: int) -> Cut:
        """The cut before the punctuation that ends at `char`, up to the cut before `not_before`.

        Tokenizers join punctuation into tokens, so whatever is to follow that is other than what
        followed it changes how it is written. Special tokens are no punctuation.
        """
        cut, least = self.cut_before(char), self.cut_before(not_before)
        token = cut.token
        while token > least.token and self._is_punctuation(self.token_ids[token - 1]):
            token -= 1
        while (found := self._cut(token)) is None:
            token -= 1
        return found

    def _is_punctuation(self, token_id: int) -> bool:
        piece = self._table.ordinary_bytes(token_id)
        return piece is not None and piece.isascii() and not any(map(str.isalnum, piece.decode()))

    def _cut(self, token: int) -> Cut | None:
        byte = self.token_starts[token]
        # Tokens without text belong to what comes behind them.
        token = bisect_left(self.token_starts, byte)
        if self._char_starts is None:
            return Cut(token, byte)
        char = bisect_left(self._char_starts, byte)
        return Cut(token, char) if self._char_starts[char] == byte else None


def _decoded(raw: bytes) -> tuple[str, list[int] | None]:
    """Text, and the first byte of each character and the end; None where a character is a byte."""
    if raw.isascii():
        return raw.decode("ascii"), None
    parts: list[str] = []
    widths: list[int] = []
    place = 0
    while place < len(raw):
        broken_width = 0
        try:
            part = raw[place:].decode("utf-8")
        except UnicodeDecodeError as error:
            part = raw[place : place + error.start].decode("utf-8")
            broken_width = error.end - error.start
        parts.append(part)
        widths += [len(char.encode("utf-8")) for char in part]
        if broken_width:
            parts.append(_REPLACEMENT)
            widths.append(broken_width)
        place += len(part.encode("utf-8")) + broken_width
    return "".join(parts), list(accumulate(widths, initial=0))


__all__ = ["Cut", "TokenText"]
