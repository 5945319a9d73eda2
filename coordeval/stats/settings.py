"""What runs were made with: the settings that they share, and those in which they differ."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordeval.decoding.settings import (
    CONSTRAINT_MODES,
    GUARD_MODES,
    ConstraintSettings,
    GuardSettings,
)
from coordeval.engines.identity import HASH_KEYS, essence
from coordeval.errors import ConfigError, NotComparable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coordeval.runs import Run

# Parts of run.json that say how a run was made, in the order in which they are shown.
SETTINGS: tuple[str, ...] = (
    "checkpoint",
    "adapter",
    "dataset",
    "selection",
    "categories",
    "prompt",
    "decode",
    "seed",
    "engine",
    "dialect",
    "frame",
    "pixels",
    "vocabulary",
)


# What run.json leaves out where it is not used.
_OFF_WHERE_ABSENT: dict[str, str] = {"constraint": "none", "guard": "off", "telemetry": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of several runs: `same` holds what all record alike, `differs` the rest, per run.

    A setting that no run records is in neither; None in `differs` says that the run records none.
    """

    same: dict[str, Any]
    differs: dict[str, list[Any]]


def compare_settings(runs: Sequence[Run]) -> Settings:
    """Sort the settings of runs into shared and differing ones; hashed parts go by their hash."""
    metas = [run.meta for run in runs]
    cores = [essence(meta) for meta in metas]
    same: dict[str, Any] = {}
    differs: dict[str, list[Any]] = {}
    for name in SETTINGS:
        held = [name in meta for meta in metas]
        if not any(held):
            continue
        if all(held) and all(core[name] == cores[0][name] for core in cores[1:]):
            same[name] = metas[0][name]
        else:
            differs[name] = [meta.get(name) for meta in metas]
    return Settings(same=same, differs=differs)


def require_same(names: Sequence[str], settings: Settings) -> None:
    """Refuse runs that differ in one of the named settings, or do not all record it.

    Raises ConfigError for a name that is no setting, NotComparable for the first that differs.
    """
    for name in names:
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(SETTINGS)}"
            raise ConfigError(f"--require-same {name!r}: unknown setting; {hint}")
    for name in names:
        if name in settings.same:
            continue
        if name not in settings.differs:
            raise NotComparable(f"--require-same {name}: no run records it")
        values = settings.differs[name]
        fields = differing_fields(values)
        shown = "; ".join(f"{field}: {' / '.join(parts)}" for field, parts in fields.items())
        raise NotComparable(f"--require-same {name}: the runs differ in it ({shown})")


def differing_fields(values: Sequence[Any]) -> dict[str, list[str]]:
    """A differing setting for people: field by field, only what differs; "" for a plain value.

    A run that does not record it shows as "not recorded". Control of decoding is absent from
    run.json where it is off, and shows as "off".
    """
    if all(isinstance(value, dict) for value in values):
        keys = list(dict.fromkeys(key for value in values for key in value))
        return {
            key: [shown_field(key, value.get(key)) for value in values]
            for key in keys
            if any(value.get(key) != values[0].get(key) for value in values[1:])
        }
    return {"": ["not recorded" if value is None else shown_value(value) for value in values]}


def shown_field(name: str, value: Any) -> str:
    """One field of a setting in a few characters."""
    if value is None and name in _OFF_WHERE_ABSENT:
        return _OFF_WHERE_ABSENT[name]
    return shown_value(value)


def control_text(raw: Mapping[str, Any]) -> str:
    """A constraint or loop guard in words: its mode, and what differs from the defaults."""
    mode = str(raw.get("mode"))
    defaults: dict[str, Any] = {}
    if mode in CONSTRAINT_MODES:
        defaults = ConstraintSettings(mode=mode).to_json()
    elif mode in GUARD_MODES:
        defaults = GuardSettings(mode=mode).to_json()
    parts = [
        _control_part(key.replace("_", " "), value)
        for key, value in raw.items()
        if key != "mode" and not (key in defaults and defaults[key] == value)
    ]
    return mode + (f" ({', '.join(parts)})" if parts else "")


def _control_part(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, list):
        value = " ".join(map(str, value)) if len(value) < 4 else f"({len(value)})"
    return f"{name} {value}"


def control_facts(decode: Mapping[str, Any]) -> list[str]:
    """Constraint, loop guard and number of samples of decode settings, where there are any."""
    facts = []
    for name, what in (("constraint", "constrained to"), ("guard", "loop guard")):
        raw = decode.get(name)
        if isinstance(raw, dict) and raw.get("mode") not in (None, "none", "off"):
            facts.append(f"{what} {control_text(raw)}")
    samples = decode.get("samples")
    if isinstance(samples, int) and samples > 1:
        facts.append(f"{samples} samples per image")
    return facts


def shown_value(value: Any) -> str:
    """A setting's value in a few characters."""
    if value is None:
        return "none"
    if isinstance(value, dict) and "mode" in value:
        value = control_text(value)
    if isinstance(value, dict):
        value = value.get("name") or ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, list):
        return f"{len(value)} entries"
    text = str(value)
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text[:8]
    return text if len(text) <= 60 else text[:57] + "..."


def label_of(value: Mapping[str, Any] | None, name: str) -> str | None:
    """Name and short hash of a hashed setting (checkpoint, prompt, dataset, adapter)."""
    if not isinstance(value, dict):
        return None
    digest = value.get(HASH_KEYS[name])
    label = value.get("name") or value.get("path")
    short = f" ({str(digest)[:8]})" if digest else ""
    return f"{label}{short}" if label else None


__all__ = [
    "SETTINGS",
    "Settings",
    "compare_settings",
    "control_facts",
    "control_text",
    "differing_fields",
    "label_of",
    "require_same",
    "shown_field",
    "shown_value",
]
