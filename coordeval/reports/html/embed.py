"""Data inside a page: JSON that cannot end its script element, and compressed when it is large."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from coordeval.jsonl import dump_line

if TYPE_CHECKING:
    from collections.abc import Iterable

PLAIN_LIMIT_BYTES = 2_000_000
"""Up to here details stand in the page as plain JSON, readable in its source."""

_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def script_json(value: Any) -> Markup:
    """JSON text for a `<script type="application/json">` element.

    The signs that could end the element or start a comment, and the two line separators of
    JavaScript, are written as escapes; so are lone surrogates.
    """
    text = dump_line(value).decode("utf-8").rstrip("\n")
    return Markup(text.translate(_ESCAPES))  # noqa: S704 - escaped on this very line


def pack_chunks(chunks: Iterable[Any]) -> dict[str, Any]:
    """Chunks of details for `script_json`: as they are, or deflated and in base64 when large.

    `codec` is `json` or `deflate` (zlib format); no chunks give an empty list.
    """
    plain: list[Any] = []
    packed: list[str] = []
    size = 0
    for chunk in chunks:
        text = dump_line(chunk)
        size += len(text)
        if size <= PLAIN_LIMIT_BYTES:
            plain.append(chunk)
            continue
        packed += [_deflated(dump_line(earlier)) for earlier in plain]
        packed.append(_deflated(text))
        plain = []
    if packed:
        return {"codec": "deflate", "chunks": packed}
    return {"codec": "json", "chunks": plain}


def _deflated(text: bytes) -> str:
    return base64.b64encode(zlib.compress(text, 9)).decode("ascii")


__all__ = ["PLAIN_LIMIT_BYTES", "pack_chunks", "script_json"]
