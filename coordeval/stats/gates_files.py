"""Gates from files: a TOML or YAML table of gates, and the [gates] of coordeval.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordeval.documents import read_toml, read_yaml
from coordeval.errors import ConfigError
from coordeval.quoting import shown
from coordeval.stats.gates import Gate, gate_of, parse_gate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_YAML_ENDINGS = (".yaml", ".yml")


def read_gates_file(path: Path) -> list[Gate]:
    """Gates of a TOML or YAML file (by its ending): its `gates`, else the whole file.

    They are a table key -> condition, where a condition is a string, a number or a list of those,
    or a list of whole gates. ConfigError names the file.
    """
    is_yaml = path.suffix.lower() in _YAML_ENDINGS
    content: Any = read_yaml(path) if is_yaml else read_toml(path)
    if isinstance(content, dict) and "gates" in content:
        content = content["gates"]
    return gates_of(content, str(path))


def gates_of(content: Any, where: str) -> list[Gate]:
    """Gates from plain data; ConfigError names `where` and the row."""
    if isinstance(content, list):
        if not all(isinstance(item, str) for item in content):
            raise ConfigError(f"{where}: a list of gates must hold strings like 'coco/AP:-0.5pt'")
        return [_located(where, parse_gate, item) for item in content]
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: gates must be a table of key = condition, or a list of gates")
    out = []
    for key, conditions in content.items():
        for condition in conditions if isinstance(conditions, list) else [conditions]:
            if isinstance(condition, bool) or not isinstance(condition, str | int | float):
                raise ConfigError(
                    f"{where}: gate {shown(str(key), 60)}: {shown(str(condition), 60)} is no "
                    "condition; write a string like '-0.5pt' or '>=0.8'"
                )
            out.append(_located(where, gate_of, str(key), condition))
    return out


def _located(where: str, make: Any, *parts: Any) -> Gate:
    try:
        gate: Gate = make(*parts)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return gate


def merge_gates(*sources: Iterable[Gate]) -> list[Gate]:
    """All gates; a source overrides the gates on the same key of those before it."""
    out: list[Gate] = []
    for source in sources:
        gates = list(source)
        keys = {gate.key for gate in gates}
        out = [gate for gate in out if gate.key not in keys] + gates
    return out


__all__ = ["gates_of", "merge_gates", "read_gates_file"]
