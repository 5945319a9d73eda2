"""How training rollouts are asked for: prompt, images and decode settings, read before training.

Prompt, image limits, dialect and field order are those of the training data: what is rolled out is
what is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordeval.data.class_list import choose_classes
from coordeval.data.pixels import parse_pixels
from coordeval.data.token_budget import MINIMUM_TOKENS, token_limit
from coordeval.engines.budget import needed_tokens
from coordeval.engines.options import RolloutOptions, control_settings
from coordeval.errors import ConfigError
from coordeval.training.rollout_eval.decode_options import (
    DECODE_OPTIONS,
    ENGINE_OPTIONS,
    SERVER_OPTIONS,
    checked_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordeval.data.pixels import PixelLimits
    from coordeval.data.prompts import Prompt
    from coordeval.engines.base import DecodeSettings
    from coordeval.engines.hf_loading import Reader
    from coordeval.parsers.dialects import Dialect
    from coordeval.training.config import DataConfig
    from coordeval.training.data.dataset import TrainDataset
    from coordeval.training.stage2.config import RolloutConfig

WHERE = "stage2.channel_b.rollout"
_LIVE = (
    "the training itself decodes (engine: hf), where and as it is; choose engine: vllm to set this"
)
_OF_SERVER = "is an option of engine: server"
_REFUSED = {
    "samples": "write views: several rollouts of a sample are views of it",
    "sample_temperature": "write view_temperature: it is that of the views beyond the first",
    "telemetry": "training rollouts keep no slot telemetry; coord_diag/B/... in the log says how "
    "coordinates are predicted",
    "engine": "write it one level up, as rollout.engine",
    "data_parallel": "rollouts are spread over the processes of the training",
}
_ENGINE_OPTIONS = {name: kind for name, kind in ENGINE_OPTIONS.items() if name not in _REFUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """Everything of a training rollout but the weights; the same in every step.

    `decode` counts views as samples: view 0 is the headline. `seed` is that of the training, or
    the one that `decode` names. `options` are those of an engine that is started from a checkpoint.
    """

    prompt: Prompt
    pixels: PixelLimits | None
    decode: DecodeSettings
    dialect: Dialect
    batch_size: int
    seed: int
    options: RolloutOptions


def build_rollout_plan(
    config: RolloutConfig,
    data: DataConfig,
    dataset: TrainDataset,
    reader: Reader,
    *,
    seed: int,
    notify: Callable[[str], None],
) -> RolloutPlan:
    """Settle every setting; `notify` hears of a token limit that the data are too long for.

    Raises ConfigError for options that are unknown (with the nearest known name), of the wrong
    type, of another engine, or without effect.
    """
    values = _checked(config)
    seed = values.get("seed", seed)
    try:
        values |= control_settings(values)
        options = _options(config, data, values)
        if config.engine == "server":
            _check_server_options(options)
        limit = options.max_new_tokens
        class_names = choose_classes(options.classes, dataset.dataset.categories)
        options.decode_settings(MINIMUM_TOKENS if limit is None else limit, class_names=class_names)
    except ConfigError as error:
        raise ConfigError(f"{WHERE}.decode: {error}") from None
    needed = needed_tokens(
        dataset.samples, tokenizer=reader.tokenizer, dialect=dataset.dialect, frame=dataset.frame
    )
    limit = token_limit(limit, needed, lambda text: notify(f"training rollouts: {text}"))
    return RolloutPlan(
        prompt=dataset.prompt,
        pixels=parse_pixels(data.pixels),
        decode=options.decode_settings(limit, class_names=class_names),
        dialect=dataset.dialect,
        batch_size=config.batch_size,
        seed=seed,
        options=options,
    )


def _checked(config: RolloutConfig) -> dict[str, Any]:
    """`decode` with the options of its engine alone."""
    refused = dict(_REFUSED)
    known = {name: kind for name, kind in DECODE_OPTIONS.items() if name not in refused}
    if config.engine == "hf":
        refused |= dict.fromkeys(_ENGINE_OPTIONS, _LIVE)
    elif config.engine == "vllm":
        known |= _ENGINE_OPTIONS
    if config.engine == "server":
        known |= SERVER_OPTIONS
        refused |= dict.fromkeys(_ENGINE_OPTIONS, "is for the server itself: start it with that")
    else:
        refused |= dict.fromkeys(SERVER_OPTIONS, _OF_SERVER)
    return checked_options(config.decode, known, where=f"{WHERE}.decode", refused=refused)


def _check_server_options(options: RolloutOptions) -> None:
    """Refuse numbers with which no request would ever be sent, or none be waited for."""
    if options.concurrency < 1:
        raise ConfigError("concurrency must be at least 1")
    if options.retries < 0:
        raise ConfigError("retries must be at least 0")
    if options.timeout_s <= 0:
        raise ConfigError("timeout_s must be above 0 seconds")


def _options(config: RolloutConfig, data: DataConfig, values: dict[str, Any]) -> RolloutOptions:
    several = config.views > 1
    options = RolloutOptions(
        checkpoint="",
        engine=config.engine,
        data=Path(data.train),
        runs_dir=Path(),
        dialect=data.dialect,
        field_order=data.field_order,
        frame=data.frame,
        pixels=data.pixels,
        batch_size=config.batch_size,
        samples=config.views,
        sample_temperature=config.view_temperature if several else None,
        server_url=config.server,
        **values,
    )
    return replace(options, seed=0)  # every request has a seed of its own


__all__ = ["WHERE", "RolloutPlan", "build_rollout_plan"]
