"""The body of a server's answer, unpacked where it is compressed, and never beyond a limit.

HTTP libraries unpack every piece whole, and as often as the header names a packing: of some ten
kilobytes that are packed twice they make gigabytes at once.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from coordeval.engines.server_failures import GarbageAnswer, HugeAnswer
from coordeval.quoting import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx

ACCEPTED = "gzip"
"""What a server is told that it may pack answers with."""
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_PLAIN = frozenset({"", "identity"})
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


async def bounded_pieces(response: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """The body piece by piece; HugeAnswer as soon as there is more of it, packed or unpacked.

    GarbageAnswer for a packing that was not asked for, or that is broken.
    """
    unpacker = _unpacker(response.headers)
    packed = received = 0
    async for raw in response.aiter_raw():
        packed += len(raw)
        piece = raw
        if unpacker is not None:
            try:
                piece = unpacker.decompress(raw, max_bytes - received + 1)
            except zlib.error as error:
                raise GarbageAnswer(f"the answer cannot be decompressed: {error}") from None
        received += len(piece)
        if max(packed, received) > max_bytes:
            raise HugeAnswer(f"the answer is larger than {max_bytes:,} bytes")
        yield piece


def _unpacker(headers: Mapping[str, str]) -> zlib._Decompress | None:
    """What undoes the one packing that the header names; None where there is none."""
    packing = headers.get("content-encoding", "").strip().lower()
    if packing in _PLAIN:
        return None
    if packing in _PACKED:
        return zlib.decompressobj(_ZLIB_OR_GZIP)
    raise GarbageAnswer(
        f"the answer cannot be decompressed: it is packed as {shown(packing, 60)}, "
        "which was not asked for"
    )


__all__ = ["ACCEPTED", "bounded_pieces"]
