"""What a client tells the logits processor inside vLLM, as JSON; read and written here alone.

In process it travels as `SamplingParams.extra_args["coordeval"]`, over HTTP as `vllm_xargs`, where
values must be flat: hence one string.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from coordeval.decoding.settings import ConstraintSettings, GuardSettings
from coordeval.errors import ConfigError
from coordeval.parsers.dialects import Dialect, dialect_from_json

EXTRA_ARG = "coordeval"
_KEYS = frozenset({"constraint", "guard", "dialect", "end_ids"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """Control of one request: what a `ControlPlan` is compiled from, beside the tokenizer."""

    constraint: ConstraintSettings
    guard: GuardSettings
    dialect: Dialect
    end_ids: tuple[int, ...]

    def to_text(self) -> str:
        """One line of JSON, the same for equal requests."""
        raw = {
            "constraint": self.constraint.to_json(),
            "guard": self.guard.to_json(),
            "dialect": self.dialect.to_json(),
            "end_ids": sorted(self.end_ids),
        }
        return json.dumps(raw, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """Asks whether the processor is there: it then forces exactly this token, every time."""

    token_id: int

    def to_text(self) -> str:
        """One line of JSON."""
        return json.dumps({"handshake": self.token_id})


def read_control(raw: Any) -> ControlRequest | Handshake:
    """Read what `to_text` wrote, as text or already as a mapping.

    Raises ValueError with one clear line for anything else.
    """
    if isinstance(raw, str | bytes):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise ValueError(f"{EXTRA_ARG}: not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{EXTRA_ARG}: must be a JSON object")  # noqa: TRY004 - vLLM's contract
    if "handshake" in raw:
        return _handshake(raw)
    for key in raw:
        if key not in _KEYS:
            raise ValueError(f"{EXTRA_ARG}: unknown key {key!r}")
    try:
        constraint = ConstraintSettings.from_json(raw.get("constraint", {}))
        guard = GuardSettings.from_json(raw.get("guard", {}))
        dialect = dialect_from_json(raw.get("dialect", {"name": "coordjson"}))
    except (TypeError, AttributeError, ConfigError) as error:
        raise ValueError(f"{EXTRA_ARG}: {error}") from None
    return ControlRequest(
        constraint=constraint, guard=guard, dialect=dialect, end_ids=_end_ids(raw.get("end_ids"))
    )


def _handshake(raw: dict[str, Any]) -> Handshake:
    if len(raw) > 1:
        raise ValueError(f"{EXTRA_ARG}: a handshake stands alone")
    return Handshake(token_id=_token_id(raw["handshake"], "handshake"))


def _end_ids(raw: Any) -> tuple[int, ...]:
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"{EXTRA_ARG}: end_ids must list at least one token id")
    return tuple(sorted({_token_id(item, "end_ids") for item in raw}))


def _token_id(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{EXTRA_ARG}: {name} must be a token id, not {value!r}")
    return value


__all__ = ["EXTRA_ARG", "ControlRequest", "Handshake", "read_control"]
