"""The teacher-forced objective that stage 2 evaluates: its loss on a plain pass over the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordeval.errors import ConfigError
from coordeval.training.config import BoxLossConfig, ObjectiveConfig
from coordeval.training.stage2.schedule import channels_used

if TYPE_CHECKING:
    from coordeval.training.stage2.config import Stage2Config


def plain_objective(config: Stage2Config) -> ObjectiveConfig:
    """Channel A's weights of text and final terms, in one pass that reads true coordinates.

    That is channel A with one iteration and no anchor; where channel A has no step, channel B's
    weights. So evaluation losses are one number whatever channel was trained last, comparable
    between steps. Where nothing of this has a weight it is what else can be taken of the truth:
    channel A's anchors, which stand on that very pass; for unlikelihood alone, which needs
    rollouts, the cross-entropy of text. Raises ConfigError where no term has a weight at all.
    """
    has_a, _ = channels_used(config)
    channel = config.channel_a if has_a else config.channel_b
    weights = {
        "text_ce": channel.text_ce,
        "gate": config.coord_gate_weight,
        **channel.weights.by_name(),
    }
    if not any(weights.values()):
        weights |= _instead(config, has_a=has_a)
    try:
        return ObjectiveConfig(
            preset="soft",  # every weight is given; `pure_ce` would join both cross-entropies
            text_ce=weights["text_ce"],
            hard_ce=weights["hard_ce"],
            soft_ce=weights["soft_ce"],
            w1=weights["w1"],
            gate=weights["gate"],
            text_gate=weights["text_gate"],
            sigma=config.sigma,
            truncate=config.truncate,
            temperature=config.temperature,
            box=BoxLossConfig(
                smooth_l1=weights["smooth_l1"],
                ciou=weights["ciou"],
                giou=weights["giou"],
                decode=channel.decode,
            ),
        )
    except ConfigError:
        section = "channel_a" if has_a else "channel_b"
        raise ConfigError(f"stage2.{section}: no term has a weight") from None


def _instead(config: Stage2Config, *, has_a: bool) -> dict[str, float]:
    if has_a:
        return config.channel_a.anchor.by_name()
    return {"text_ce": 1.0} if config.channel_b.unlikelihood else {}


__all__ = ["plain_objective"]
