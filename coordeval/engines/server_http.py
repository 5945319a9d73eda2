"""One HTTP exchange with a server, bounded in time and size, and its failures sorted."""

from __future__ import annotations

import asyncio
import email.utils
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from coordeval.engines.server_address import hide_key
from coordeval.engines.server_failures import (
    GarbageAnswer,
    GrammarFailed,
    HugeAnswer,
    RequestRefused,
    ServerAway,
    ServerBroken,
    ServerBusy,
    ServerFailure,
)
from coordeval.engines.server_unpacking import ACCEPTED, bounded_pieces
from coordeval.errors import ConfigError, MissingExtraError
from coordeval.jsonl import dump_line, load_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType
    from typing import Self

    import httpx

    from coordeval.engines.server_address import ServerAddress

CONNECT_TIMEOUT_S = 10.0
SHOWN_CHARACTERS = 300
SHOWN_START = 60
# Statuses below 500 that pass: request timeout, too early.
_PASSING = frozenset({408, 425})
_DONE = b"[DONE]"


class ServerHttp:
    """Talks to one server; an async context manager that belongs to one event loop.

    `timeout_s` bounds a whole exchange, `max_bytes` an answer. All that goes wrong is a
    `ServerFailure` with the key blotted out. Raises MissingExtraError without httpx, ConfigError
    for a proxy of the environment that cannot be used.
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        key: str | None,
        connections: int,
        timeout_s: float,
        max_bytes: int,
    ) -> None:
        httpx = require_httpx()
        self._httpx, self._key = httpx, key
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self._client = httpx.AsyncClient(
                headers={"Accept-Encoding": ACCEPTED} | headers,
                limits=httpx.Limits(
                    max_connections=connections, max_keepalive_connections=connections
                ),
                timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
                follow_redirects=False,  # the key must not follow to another place
                trust_env=not address.is_loopback,
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise _unusable_proxy(error) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(self, url: str) -> Any:
        """The JSON document at an address."""
        async with self._exchange("GET", url, None) as response:
            return self._document(await self._body(response))

    async def post(self, url: str, body: bytes) -> Any:
        """The JSON document that answers a JSON body."""
        async with self._exchange("POST", url, body) as response:
            return self._document(await self._body(response))

    async def tell(self, url: str, body: bytes) -> None:
        """Hand over a JSON body where nothing is to be answered but that all went well."""
        async with self._exchange("POST", url, body) as response:
            await self._body(response)

    @asynccontextmanager
    async def events(self, url: str, body: bytes) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """The documents of a server-sent event stream; leaving the block ends the generation.

        A stream that ends without `[DONE]` broke: ServerAway. An `error` document raises.
        """
        async with self._exchange("POST", url, body) as response:
            yield self._documents(response)

    async def _documents(self, response: httpx.Response) -> AsyncGenerator[Any, None]:
        received, pending = False, b""
        async for piece in bounded_pieces(response, self._max_bytes):
            received = True
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                field, _, content = line.strip().partition(b":")
                if field != b"data" or not content.strip():
                    continue
                if content.strip() == _DONE:
                    return
                document = self._document(content)
                if isinstance(document, dict) and document.get("error"):
                    raise self._sorted(_error_code(document), document, None)
                yield document
        if not received or pending.strip():
            raise ServerAway("the stream of the answer ended in the middle")
        raise ServerAway("the stream of the answer ended before it was done")

    async def _body(self, response: httpx.Response) -> bytes:
        return b"".join([piece async for piece in bounded_pieces(response, self._max_bytes)])

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, body: bytes | None
    ) -> AsyncIterator[httpx.Response]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream(method, url, content=body, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise await self._refusal(response)
                yield response
        except TimeoutError:
            raise ServerAway(f"no answer within {self._timeout_s:g} s") from None
        except self._httpx.TimeoutException as error:
            what = "no connection" if _is_connecting(error) else "no answer"
            raise ServerAway(f"{what} in time") from None
        except (self._httpx.HTTPError, self._httpx.StreamError, OSError) as error:
            raise ServerAway(self._line("no connection", error)) from None

    async def _refusal(self, response: httpx.Response) -> ServerFailure:
        try:
            raw = await self._body(response)
        except HugeAnswer:
            raw = b""
        try:
            document = load_json(raw)
        except ValueError:
            document = raw.decode("utf-8", "replace")
        wait = _retry_after_s(response.headers.get("retry-after"))
        return self._sorted(response.status_code, document, wait)

    def _sorted(self, status: int, document: Any, retry_after_s: float | None) -> ServerFailure:
        """The failure that a status and its document stand for."""
        said = hide_key(_message(document), self._key)[:SHOWN_CHARACTERS]
        text = f"HTTP {status}" + (f": {said}" if said else "")
        if 300 <= status < 400:
            return RequestRefused(f"{text}: a redirect; give the server's final address", status)
        if "grammar" in said.lower() or "structured output" in said.lower():
            return GrammarFailed(text)
        if status == 429 or (status == 503 and retry_after_s is not None):
            return ServerBusy(text, retry_after_s)
        if status >= 500 or status in _PASSING:
            return ServerBroken(text)
        if status < 400:
            return GarbageAnswer(text)
        return RequestRefused(text, status)

    def _line(self, what: str, error: BaseException) -> str:
        said = " ".join(str(error).split()) or type(error).__name__
        return hide_key(f"{what}: {said}", self._key)[:SHOWN_CHARACTERS]

    def _document(self, raw: bytes) -> Any:
        try:
            return load_json(raw)
        except ValueError:
            text = raw[:SHOWN_CHARACTERS].decode("utf-8", "replace")
            # Blotted out before it is cut, else the start of a key would be left.
            start = hide_key(" ".join(text.split()), self._key)[:SHOWN_START]
            raise GarbageAnswer(f"the answer is not JSON; it starts with {start!r}") from None


def require_httpx() -> Any:
    """The httpx module; MissingExtraError where it is not installed."""
    try:
        import httpx
    except ImportError:
        raise MissingExtraError("the engine server", "server") from None
    return httpx


def _unusable_proxy(error: Exception) -> ConfigError:
    """What to say of a proxy of the environment, of which nothing is repeated: it may hold a key.

    httpx looks at proxies, and at nothing else of the environment that can be wrong, at its start.
    """
    lacks = "httpx[socks] is not installed" if isinstance(error, ImportError) else "no http address"
    return ConfigError(
        f"the proxy of the environment (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY) cannot be used: "
        f"{lacks}; mend it, or list the server in NO_PROXY"
    )


def dump_body(body: dict[str, Any]) -> bytes:
    """A request's JSON body; lone surrogates of a dataset's words are escapes in it."""
    return dump_line(body)


def _error_code(document: dict[str, Any]) -> int:
    error = document.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _message(document: Any) -> str:
    """What a server says of an error: OpenAI's form, FastAPI's, or the start of the text."""
    if isinstance(document, dict):
        error = document.get("error", document)
        if isinstance(error, dict):
            error = error.get("message", error.get("detail", error))
        document = error
    text = document if isinstance(document, str) else repr(document)
    return " ".join(text.split())


def _retry_after_s(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None for nonsense."""
    if header is None:
        return None
    if header.strip().isdecimal() and header.isascii() and len(header) < 10:
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
        return max(0.0, moment.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _is_connecting(error: BaseException) -> bool:
    return type(error).__name__ in {"ConnectTimeout", "PoolTimeout"}


__all__ = ["ServerHttp", "dump_body", "require_httpx"]
