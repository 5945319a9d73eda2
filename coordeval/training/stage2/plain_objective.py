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
    between steps. Raises ConfigError where these weights are all 0.
    """
    has_a, _ = channels_used(config)
    channel = config.channel_a if has_a else config.channel_b
    weights = channel.weights
    try:
        return ObjectiveConfig(
            preset="soft",  # every weight is given; `pure_ce` would join both cross-entropies
            text_ce=channel.text_ce,
            hard_ce=weights.hard_ce,
            soft_ce=weights.soft_ce,
            w1=weights.w1,
            gate=config.coord_gate_weight,
            text_gate=weights.text_gate,
            sigma=config.sigma,
            truncate=config.truncate,
            temperature=config.temperature,
            box=BoxLossConfig(
                smooth_l1=weights.smooth_l1,
                ciou=weights.ciou,
                giou=weights.giou,
                decode=channel.decode,
            ),
        )
    except ConfigError:
        section = "channel_a" if has_a else "channel_b"
        raise ConfigError(f"stage2.{section}: no term has a weight") from None


__all__ = ["plain_objective"]
