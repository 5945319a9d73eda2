"""The connection to a Ray cluster, and what its nodes have room for."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.engines.ray_address import AUTO, LOCAL, check_address, reach
from coordeval.engines.ray_head import let_us_speak_first
from coordeval.engines.ray_words import divide_stdout, join_stdout
from coordeval.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster; `resources` are its totals (CPU, GPU, memory in bytes, ...)."""

    id: str
    address: str
    resources: Mapping[str, float]

    def room(self, need: Mapping[str, float]) -> int:
        """How many replicas of this need it can hold, whoever uses it at present."""
        return int(min(self.resources.get(name, 0.0) // amount for name, amount in need.items()))


def require_ray() -> Any:
    """The ray module with `ray.data`; MissingExtraError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    let_us_speak_first()
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("the engine ray", "ray") from None
    return ray


class Cluster:
    """A connection; `close` ends it where it was made here."""

    def __init__(self, address: str | None) -> None:
        """Connect to `address`: HOST:PORT, `auto`, or `local` for one that ends with the run.

        None is RAY_ADDRESS, else `auto`. Raises ConfigError where there is no cluster, or one that
        does not let us in, and MissingExtraError without Ray.
        """
        wanted = check_address(address or os.environ.get("RAY_ADDRESS") or AUTO)
        self._ray = require_ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _connect(self._ray, wanted)
            divide_stdout()
        else:
            _check_same(wanted, str(self._ray.get_runtime_context().gcs_address))

    def nodes(self) -> list[Node]:
        """The machines that are there at this moment."""
        return [
            Node(id=raw["NodeID"], address=raw["NodeManagerAddress"], resources=raw["Resources"])
            for raw in self._ray.nodes()
            if raw["Alive"]
        ]

    def room(self, need: Mapping[str, float]) -> int:
        """How many replicas of this need the whole cluster can hold at this moment."""
        return sum(node.room(need) for node in self.nodes())

    def head(self) -> str:
        """HOST:PORT of the head."""
        return str(self._ray.get_runtime_context().gcs_address)

    def here(self) -> str:
        """Id of the node that this process runs on."""
        return str(self._ray.get_runtime_context().get_node_id())

    def close(self) -> None:
        """Leave the cluster (a local one ends); nothing where others made the connection."""
        if self._ours and self._ray.is_initialized():
            with redirect_stdout(sys.stderr):  # what Ray has kept back as repeated, it says now
                self._ray.shutdown()
            join_stdout()
        self._ours = False


def _check_same(wanted: str, connected: str) -> None:
    """Refuse another cluster than the connected one; a host has many names, so ports are told."""
    if wanted not in {AUTO, LOCAL} and wanted.rpartition(":")[2] != connected.rpartition(":")[2]:
        raise ConfigError(f"--ray-address {wanted}: this process is connected to {connected}")


def _connect(ray: Any, address: str) -> None:
    if address not in {AUTO, LOCAL}:
        reach(address)
    options: dict[str, Any] = {"address": address, "log_to_driver": False}
    if address == LOCAL:
        options["include_dashboard"] = False
    try:
        with _own_handlers():
            ray.init(**options, logging_level=logging.ERROR, configure_logging=True)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        start = "start one with ray start --head, or give --ray-address HOST:PORT or local"
        hint = f"; {start}" if address == AUTO else ""
        raise ConfigError(f"--ray-address {address}: no Ray cluster: {reason}{hint}") from None


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep our signal handlers: Ray sets one of its own for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)


__all__ = ["Cluster", "Node", "require_ray"]
