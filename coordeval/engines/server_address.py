"""Where a server is, and the key that opens it: the address may be stored, the key never."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coordeval.addresses import HIDDEN
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_VARIABLES = ("COORDEVAL_API_KEY", "OPENAI_API_KEY")
MIN_HIDDEN_LENGTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """The root of a server, without trailing slash, and what lies below it."""

    root: str

    @property
    def chat(self) -> str:
        """Where chat completions are asked for."""
        return f"{self.root}/v1/chat/completions"

    @property
    def models(self) -> str:
        """Where the server lists what it serves."""
        return f"{self.root}/v1/models"

    @property
    def version(self) -> str:
        """Where vLLM says its version."""
        return f"{self.root}/version"

    @property
    def is_loopback(self) -> bool:
        """True for this machine itself, which no proxy should stand before."""
        host = urlsplit(self.root).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def parse_address(url: str | None, *, name: str = "--server-url") -> ServerAddress:
    """Read an address, with or without the `/v1` at its end; `name` is where the user wrote it.

    Raises ConfigError for a missing or malformed address, and for one that carries a user, a
    password or a query: those end up in logs. No part of such an address is repeated.
    """
    if not url or not url.strip():
        raise ConfigError(f"the engine server needs {name}, say http://localhost:8000")
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{name} is not an address: write http://host:port") from None
    if "@" in url or "?" in url or "#" in url:
        raise ConfigError(
            f"{name} must be the plain address, without user, password, query or fragment; "
            f"a key is read from the environment ({KEY_VARIABLES[0]})"
        )
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise ConfigError(f"{name} {url!r}: write http://host:port or https://host")
    shown_host = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return ServerAddress(
        root=f"{parts.scheme}://{shown_host}{'' if port is None else f':{port}'}{path}"
    )


def api_key(environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of the environment, COORDEVAL_API_KEY before OPENAI_API_KEY; None without one.

    Raises ConfigError, without repeating it, for one that cannot stand in a header.
    """
    for name in KEY_VARIABLES:
        key = environment.get(name, "").strip()
        if key:
            if not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError(f"{name} holds characters that cannot stand in a header")
            return key
    return None


def hide_key(text: str, key: str | None) -> str:
    """The text with the key blotted out, wherever a server repeats it."""
    if key is None or len(key) < MIN_HIDDEN_LENGTH:
        return text
    return text.replace(key, HIDDEN)


__all__ = ["KEY_VARIABLES", "ServerAddress", "api_key", "hide_key", "parse_address"]
