"""Addresses of Ray clusters: which can be meant, and whether a head answers there."""

from __future__ import annotations

import os
import re
import socket

from coordeval.errors import ConfigError

AUTO, LOCAL = "auto", "local"
_CONNECT_S = 5.0
_SETTINGS = 4  # type of an HTTP/2 frame
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


def check_address(address: str) -> str:
    """The address without spaces; ConfigError for one that cannot be meant."""
    address = address.strip()
    if address in {AUTO, LOCAL}:
        return address
    if "@" in address:  # a password, which must not be repeated
        raise ConfigError("--ray-address: write HOST:PORT, auto or local, without user or password")
    if address.startswith("ray://"):
        raise ConfigError(
            f"--ray-address {address}: images and results would go through Ray's client proxy; run "
            "this on a machine of the cluster (ray job submit), with auto or HOST:6379"
        )
    match = re.fullmatch(r"\[?([^\[\]/@\s]+)\]?:(\d{1,5})", address)
    if match is None or not 0 < int(match.group(2)) < 65536:
        raise ConfigError(f"--ray-address {address!r}: write HOST:PORT, auto or local")
    return address


def reach(address: str) -> None:
    """Refuse an address where nobody or nothing like Ray answers, for which it waits minutes."""
    try:
        frame = first_frame(address)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ConfigError(f"--ray-address {address}: cannot be reached: {reason}") from None
    if frame is None:
        raise ConfigError(
            f"--ray-address {address}: what answers there is no Ray cluster (the port of "
            "ray start --head is 6379 unless set)"
        )


def first_frame(address: str) -> bytes | None:
    """How what listens at HOST:PORT begins to speak; None where that is not Ray's head.

    Ray's head speaks HTTP/2 (gRPC) and begins with a SETTINGS frame (RFC 9113, 3.4 and 6.5); with
    TLS only the connection is tried, and nothing read. Raises OSError where nobody answers in time.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as line:
        if os.environ.get("RAY_USE_TLS", "0").lower() not in {"0", "", "false"}:
            return b""
        line.sendall(_PREFACE)
        frame = line.recv(9)
    return frame if len(frame) >= 4 and frame[3] == _SETTINGS else None


__all__ = ["AUTO", "LOCAL", "check_address", "first_frame", "reach"]
