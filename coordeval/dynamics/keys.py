"""What training logs call things: splits, this project's key for each, and what it means.

Free-decoding metrics keep the names of `coordeval.metrics.catalogue`; this table adds what only
training logs hold (losses, teacher-forced coordinate diagnostics, token accuracies).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from coordeval.dynamics.logged_keys import logged_key
from coordeval.metrics.catalogue import CATALOGUE, MetricInfo, describe

Split = Literal["train", "eval"]
Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingKey:
    """One quantity of a training log.

    `names` are the names it has in logs, the preferred one first: where a log holds several, the
    first is taken. `unit` is loss (not comparable across objectives), nats, bins, ratio, count or
    none. `total` marks a sum of loss terms.
    """

    key: str
    meaning: str
    unit: str
    better: Better
    names: tuple[str, ...] = ()
    total: bool = False


class KeyName(NamedTuple):
    """A raw key of a log, understood: its split, this project's key, and how preferred it is.

    `known` is False for keys that no table describes; they keep their own name.
    """

    split: Split
    key: str
    rank: int
    known: bool


def _diag(leaf: str, meaning: str, unit: str, better: Better, *more: str) -> TrainingKey:
    key = f"coord_diag/{leaf}"
    return TrainingKey(
        key=key,
        meaning=meaning,
        unit=unit,
        better=better,
        names=(f"coord_softce_w1/{leaf}", key, *more),
        total=leaf == "loss",
    )


def _own(key: str, meaning: str, unit: str, better: Better, *more: str) -> TrainingKey:
    total = key in {"loss", "base_ce/loss"}
    return TrainingKey(
        key=key, meaning=meaning, unit=unit, better=better, names=(key, *more), total=total
    )


_LOSSES = (
    _own("loss", "total loss; its terms depend on the objective", "loss", "lower"),
    _own("base_ce/loss", "cross entropy over text tokens", "loss", "lower"),
    _diag("loss", "sum of the weighted coordinate terms", "loss", "lower"),
)
_COORDS = (
    _diag("ce", "hard cross entropy within the coordinate tokens", "nats", "lower"),
    _diag("soft_ce", "cross entropy with the smoothed target", "nats", "lower"),
    _diag("w1", "Wasserstein-1 distance to the smoothed target, 0 .. 1", "ratio", "lower"),
    _diag("gate", "-log of the coordinate tokens' mass at coordinate slots", "nats", "lower"),
    _diag("text_gate", "-log of the other tokens' mass at text slots", "nats", "lower"),
    _diag("p_gt_mean", "mean probability of the true bin", "ratio", "higher"),
    _diag("acc_top5", "true bin among the five most probable", "ratio", "higher"),
    _diag("expected_bin_mae", "mean |expected bin - true bin|", "bins", "lower"),
    _diag(
        "expected_bin_abs_err_p90", "90th percentile of |expected bin - true bin|", "bins", "lower"
    ),
    _diag("w1_to_delta", "mean over the distribution of |bin - true bin|", "bins", "lower"),
    _diag(
        "coord_vocab_mass",
        "probability of all coordinate tokens at coordinate slots",
        "ratio",
        "higher",
        "coord_diag/coord_vocab_mass_mean",
        "coord_monitor/coord_vocab_mass_at_gt_coord",
    ),
    _diag(
        "text_coord_vocab_mass",
        "probability of all coordinate tokens at text slots",
        "ratio",
        "lower",
        "coord_monitor/coord_vocab_mass_at_gt_text",
    ),
    # Without direction: it grows with the sharpness of a distribution, right or wrong.
    _diag("margin_mean", "mean (largest logit - true bin's logit)", "none", "none"),
    _diag(
        "flip_coord_to_noncoord",
        "coordinate slots whose most probable token is no coordinate",
        "ratio",
        "lower",
        "coord_monitor/flip_coord_to_noncoord",
    ),
    *(
        _diag(
            f"flip_{kind}_to_coord",
            f"{kind} slots whose most probable token is a coordinate",
            "ratio",
            "lower",
            f"coord_monitor/flip_{kind}_to_coord",
        )
        for kind in ("text", "desc", "format")
    ),
    *(
        _diag(
            f"coord_vocab_mass_at_{kind}",
            f"probability of all coordinate tokens at {kind} slots",
            "ratio",
            "lower",
            f"coord_monitor/coord_vocab_mass_at_gt_{kind}",
        )
        for kind in ("desc", "format")
    ),
    _diag("enabled", "1 where the coordinate terms are trained", "none", "none"),
    _diag("coord_tokens", "coordinate slots seen", "count", "none"),
)
_TOKENS = (
    _own("token_acc", "most probable token right, all supervised tokens", "ratio", "higher"),
    _own("token_acc_top5", "right token among the five most probable", "ratio", "higher"),
    _own("text_token_acc", "token accuracy outside coordinates", "ratio", "higher"),
    *(
        _own(f"{kind}_token_acc", f"token accuracy of {kind} tokens", "ratio", "higher")
        for kind in ("coord", "desc", "format")
    ),
    *(
        _own(f"{kind}_token_frac", f"share of {kind} tokens", "ratio", "none")
        for kind in ("coord", "desc", "format")
    ),
)
_COURSE = (
    _own("grad_norm", "gradient norm before clipping", "none", "none"),
    _own("learning_rate", "learning rate", "none", "none", "lr"),
    _own(
        "accum/grad_steps",
        "micro-batches per optimizer step",
        "count",
        "none",
        "accum/current_grad_steps",
        "gradient_accumulation_steps",
    ),
    _own("train_loss", "mean training loss over the whole training", "loss", "none"),
)

TRAINING_KEYS: tuple[TrainingKey, ...] = (*_LOSSES, *_COORDS, *_TOKENS, *_COURSE)
"""Every key of this table, in the order of reports."""

_EVAL_PREFIXES = ("eval/", "eval_", "validation/", "val/", "val_")
# Later and earlier names of the same groups of evaluation metrics.
_GROUPS = (("detection/", "rollout/"), ("parsing/", "rollout/"), ("det_", ""))
_ROLLOUT = "rollout/"
"""What our own evaluator in the loop puts before the catalogue's keys (`eval_rollout/coco/AP`)."""
_CHANNEL = re.compile(r"coord_diag/(A1|A2|B)/([a-z0-9_]+)")
_PLACEHOLDERS = {"<iou>": r"(0\.\d\d|1\.00|mean)", "<reason>": "([a-z_]+)", "<bucket>": "([a-z_]+)"}


@lru_cache(maxsize=4096)
def read_key(raw: str) -> KeyName:
    """What a raw key of a log stands for; unknown keys keep their name without the split.

    `eval_x` and `eval/x` are evaluation, `train/x` and everything else is training.
    """
    split, rest = _split(raw)
    for prefix, replacement in (("", ""), *_GROUPS):
        if not rest.startswith(prefix):
            continue
        found = _look_up(replacement + rest.removeprefix(prefix))
        if found is not None:
            return KeyName(split, found[0], found[1], True)
    decoded = rest.removeprefix(_ROLLOUT)
    # What free decoding says of coordinates must not pass for the teacher-forced value.
    if decoded != rest and decoded not in _names() and describe(decoded) is not None:
        return KeyName(split, decoded, 0, True)
    return KeyName(split, rest, 0, False)


def _split(raw: str) -> tuple[Split, str]:
    for prefix in _EVAL_PREFIXES:
        if raw.startswith(prefix) and len(raw) > len(prefix):
            return "eval", raw.removeprefix(prefix)
    return "train", raw.removeprefix("train/")


def _look_up(name: str) -> tuple[str, int] | None:
    exact = _names().get(name)
    if exact is not None:
        return exact
    if _CHANNEL.fullmatch(name) and key_info(name).meaning:
        return name, 0
    if describe(name) is not None:
        return name, 0
    for pattern, key, rank in _alias_patterns():
        match = pattern.fullmatch(name)
        if match is not None:
            return re.sub("<[a-z]+>", match.group(1), key, count=1), rank
    return None


@lru_cache(maxsize=1)
def _names() -> dict[str, tuple[str, int]]:
    """Every literal name to its key and rank (0 is preferred)."""
    out: dict[str, tuple[str, int]] = {}
    for entry in TRAINING_KEYS:
        for rank, name in enumerate(entry.names):
            out.setdefault(name, (entry.key, rank))
    for info in CATALOGUE:
        for rank, alias in enumerate(info.aliases, start=1):
            if "<" not in alias:
                out.setdefault(_split(alias)[1], (info.key, rank))
    return out


@lru_cache(maxsize=1)
def _alias_patterns() -> tuple[tuple[re.Pattern[str], str, int], ...]:
    """Aliases that stand for a family, such as `f1ish@<iou>_f1_full_micro`."""
    out = []
    for info in CATALOGUE:
        for rank, alias in enumerate(info.aliases, start=1):
            if "<" not in alias:
                continue
            pattern = re.escape(_split(alias)[1])
            for name, expression in _PLACEHOLDERS.items():
                pattern = pattern.replace(re.escape(name), expression)
            out.append((re.compile(pattern), info.key, rank))
    return tuple(out)


def key_info(key: str) -> TrainingKey:
    """What a key means; a key that no table knows gets the unit `none` and no direction.

    `coord_diag/A2/w1` is `coord_diag/w1` at one place of stage 2 (iteration 0 is A1, the last A2).
    """
    found = _by_key().get(key)
    if found is not None:
        return found
    place = _CHANNEL.fullmatch(key)
    if place is not None and (plain := _by_key().get(f"coord_diag/{place[2]}")) is not None:
        return replace(plain, key=key, meaning=f"{plain.meaning}, at {place[1]}", names=(key,))
    metric = catalogue_info(key) or logged_key(key)
    if metric is not None:
        return TrainingKey(
            key=key, meaning=metric.meaning, unit=metric.unit, better=metric.better, names=(key,)
        )
    is_loss = key.startswith("loss/") or key.endswith("/loss")
    return TrainingKey(
        key=key,
        meaning="a loss term" if is_loss else "",
        unit="loss" if is_loss else "none",
        better="lower" if is_loss else "none",
        names=(key,),
    )


@lru_cache(maxsize=1)
def _by_key() -> dict[str, TrainingKey]:
    return {entry.key: entry for entry in TRAINING_KEYS}


def catalogue_info(key: str) -> MetricInfo | None:
    """What the metric catalogue says of a key; None where it does not know it.

    Other tools log F1 without its IoU; such a key stays a family's (`f1/<iou>/f1`).
    """
    return describe(key) or next((info for info in CATALOGUE if info.key == key), None)


def report_order(key: str) -> tuple[int, int, str]:
    """Sort key: this table's keys first, then the catalogue's, then all others by name."""
    places = _places()
    place = places.get(key)
    if place is not None:
        return 0, place, key
    return (1, 0, key) if catalogue_info(key) is not None else (2, 0, key)


@lru_cache(maxsize=1)
def _places() -> dict[str, int]:
    return {entry.key: place for place, entry in enumerate(TRAINING_KEYS)}


def keys_markdown() -> str:
    """The table of training keys for the docs page."""
    lines = ["| key | meaning | unit | better | names in logs |", "|---|---|---|---|---|"]
    for entry in TRAINING_KEYS:
        names = ", ".join(f"`{name}`" for name in entry.names)
        meaning = entry.meaning.replace("|", "\\|")
        lines.append(f"| `{entry.key}` | {meaning} | {entry.unit} | {entry.better} | {names} |")
    return "\n".join(lines) + "\n"


__all__ = [
    "TRAINING_KEYS",
    "Better",
    "KeyName",
    "Split",
    "TrainingKey",
    "catalogue_info",
    "key_info",
    "keys_markdown",
    "read_key",
    "report_order",
]
