"""Which engine can do what: one table, for the documentation and for the words of refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from coordeval.engines.base import DecodeSettings

PROCESSOR_FLAG = "--logits-processors coordeval.engines.vllm_processor:CoordevalProcessor"
SERVER_WITH = "server with our processor"
SERVER_WITHOUT = "server without our processor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One cell: whether an engine can do it, how, and what to do where it cannot."""

    possible: bool
    how: str
    remedy: str = ""


def _yes(how: str = "yes") -> Capability:
    return Capability(possible=True, how=how)


def _no(remedy: str, how: str = "no") -> Capability:
    return Capability(possible=False, how=how, remedy=remedy)


FEATURES: dict[str, str] = {
    "coords": "--constrain coords",
    "grammar": "--constrain grammar",
    "ordered": "ordered boxes",
    "sorted": "--sorted-objects",
    "guard": "--loop-guard",
    "telemetry": "--telemetry",
}
"""Feature -> the option or setting that asks for it."""

_RECORDED = _no("roll a checkpoint out instead: a recording is already written")
_ADD_FLAG = f"start the server with: {PROCESSOR_FLAG} (on CUDA with VLLM_USE_V2_MODEL_RUNNER=0)"
_TOP_K = _yes("from the 20 most probable tokens, with the bound stated")

CAPABILITIES: dict[str, dict[str, Capability]] = {
    "hf": {
        **{name: _yes() for name in FEATURES},
        "telemetry": _yes("exact"),
    },
    "vllm": {
        **{name: _yes() for name in FEATURES},
        "telemetry": _TOP_K,
    },
    SERVER_WITH: {
        **{name: _yes() for name in FEATURES},
        "telemetry": _TOP_K,
    },
    SERVER_WITHOUT: {
        "coords": _no(_ADD_FLAG),
        "grammar": _yes("by the server's structured outputs (backend guidance)"),
        "ordered": _no(f"{_ADD_FLAG}; or give --no-ordered"),
        "sorted": _no(f"{_ADD_FLAG}; or leave --sorted-objects out"),
        "guard": _yes("here, by ending the stream"),
        "telemetry": _TOP_K,
    },
    "replay": dict.fromkeys(FEATURES, _RECORDED),
}
"""Engine -> feature -> capability."""


def asked_features(decode: DecodeSettings) -> list[str]:
    """The features that these settings ask for, in the order of the table."""
    constraint = decode.constraint
    constrained = constraint.mode != "none"
    asked = {
        "coords": constraint.mode == "coords",
        "grammar": constraint.mode == "grammar",
        "ordered": constrained and constraint.orders,
        "sorted": constrained and constraint.sorted_objects,
        "guard": decode.guard.mode != "off",
        "telemetry": decode.telemetry,
    }
    return [name for name in FEATURES if asked[name]]


def require_capabilities(engine: str, decode: DecodeSettings) -> None:
    """Refuse what the engine cannot do: ConfigError with what can, and what to do about it."""
    for name in asked_features(decode):
        capability = CAPABILITIES[engine][name]
        if not capability.possible:
            able = [other for other, row in CAPABILITIES.items() if row[name].possible]
            raise ConfigError(
                f"{FEATURES[name]} is not possible with the engine {engine} (possible with: "
                f"{'; '.join(able)}): {capability.remedy}"
            )


def capability_table() -> str:
    """The table in Markdown: one row per engine, one column per feature."""
    head = "| engine | " + " | ".join(FEATURES) + " |"
    rule = "|---" * (len(FEATURES) + 1) + "|"
    rows = [
        f"| {engine} | " + " | ".join(row[name].how for name in FEATURES) + " |"
        for engine, row in CAPABILITIES.items()
    ]
    return "\n".join([head, rule, *rows]) + "\n"


__all__ = [
    "CAPABILITIES",
    "FEATURES",
    "PROCESSOR_FLAG",
    "SERVER_WITH",
    "SERVER_WITHOUT",
    "Capability",
    "asked_features",
    "capability_table",
    "require_capabilities",
]
