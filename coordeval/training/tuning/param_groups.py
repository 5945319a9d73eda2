"""Which parameters learn at which rate: vision, aligner, language; what is decayed; Muon or not.

Groups are told apart by parameter names, which Qwen2-VL to Qwen3-VL share, adapters included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from coordeval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from coordeval.training.config import TuneConfig

Part = Literal["vision", "aligner", "language", "coord_rows"]
# Rows of tables that an adapter trains beside its matrices (PEFT's trainable_token_indices).
ADAPTER_ROWS = "trainable_tokens"
_ALIGNER = (".merger.", "deepstack_merger_list", "multi_modal_projector", ".aligner.")
_TABLES = ("embed", "lm_head")
_PLAIN = ("bias", "norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parameters of one part of the model that share learning rate, decay and optimizer."""

    name: str
    lr: float
    weight_decay: float
    parameters: list[nn.Parameter]
    muon: bool = False


def part_of(name: str) -> Part:
    """The part of the model that a parameter belongs to, by its name.

    `coord_rows` are those of an adapter; without one they are rows of tables (see `coord_only`).
    """
    if ADAPTER_ROWS in name:
        return "coord_rows"
    if "visual" not in name and "vision" not in name:
        return "language"
    return "aligner" if any(mark in name for mark in _ALIGNER) else "vision"


def is_decayed(name: str, dimensions: int) -> bool:
    """Matrices and convolutions are decayed; norms, biases and tables of embeddings are not."""
    words = name.lower()
    return dimensions >= 2 and not any(mark in words for mark in (*_TABLES, *_PLAIN))


def is_hidden_matrix(name: str, dimensions: int) -> bool:
    """Whether Muon takes a parameter: matrices inside the model, no tables."""
    return dimensions == 2 and is_decayed(name, dimensions)


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    tune: TuneConfig,
    *,
    learning_rate: float,
    weight_decay: float,
) -> list[ParameterGroup]:
    """Groups of all parameters that learn, in a fixed order; empty groups are left out.

    A part's rate is its own of `tune`, else `learning_rate`; hidden matrices under Muon have
    `muon_lr`. A part whose own rate is 0 has no group, also where its table has a gradient because
    coordinate rows learn. Raises ConfigError where nothing learns.
    """
    rates = learning_rates(tune, learning_rate)
    groups: dict[str, ParameterGroup] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        part = part_of(name)
        if _own_rates(tune)[part] == 0:
            continue
        muon = tune.muon and is_hidden_matrix(name, parameter.ndim)
        decayed = is_decayed(name, parameter.ndim)
        own = muon or decayed or part == "coord_rows"
        label = f"{part}/muon" if muon else part if own else f"{part}/plain"
        if label not in groups:
            groups[label] = ParameterGroup(
                name=label,
                lr=tune.muon_lr if muon else rates[part],
                weight_decay=weight_decay if decayed else 0.0,
                parameters=[],
                muon=muon,
            )
        groups[label].parameters.append(parameter)
    return [groups[label] for label in sorted(groups)]


def learning_rates(tune: TuneConfig, learning_rate: float) -> dict[Part, float]:
    """The peak learning rate of every part."""
    own = _own_rates(tune)
    return {part: learning_rate if rate is None else rate for part, rate in own.items()}


def _own_rates(tune: TuneConfig) -> dict[Part, float | None]:
    return {
        "vision": tune.vision_lr,
        "aligner": tune.aligner_lr,
        "language": tune.language_lr,
        "coord_rows": tune.coord_rows_lr,
    }


def freeze_still_parts(model: Any, tune: TuneConfig) -> list[str]:
    """Freeze the parts whose own learning rate is 0, which spares their gradients; their names."""
    still = [part for part, rate in _own_rates(tune).items() if rate == 0]
    for name, parameter in model.named_parameters():
        if part_of(name) in still:
            parameter.requires_grad_(False)
    return list(still)


def require_learning(model: Any) -> None:
    """ConfigError where no parameter of the model learns."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("tune: nothing learns; every learning rate is 0")


__all__ = [
    "ParameterGroup",
    "Part",
    "freeze_still_parts",
    "is_decayed",
    "is_hidden_matrix",
    "learning_rates",
    "parameter_groups",
    "part_of",
    "require_learning",
]
