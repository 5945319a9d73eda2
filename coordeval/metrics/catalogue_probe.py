"""Catalogue entries of the coordinate diagnostics, which probes and training write, not `score`."""

from __future__ import annotations

from coordeval.metrics.catalogue_info import MetricInfo
from coordeval.metrics.catalogue_info import rate_entry as _rate

_BINS_AND_NATS = (
    ("expected_bin_mae", "mean |expected bin - true bin| at coordinate slots", "bins"),
    ("expected_bin_abs_err_p90", "90th percentile of |expected bin - true bin|", "bins"),
    ("w1_to_delta", "mean over the bins' distribution of |bin - true bin|", "bins"),
    ("soft_ce", "cross entropy with a Gaussian around the true bin (sigma 2, cut at 16)", "nats"),
    ("ce", "-log of the true bin's probability among the bins", "nats"),
    ("gate", "-log of the probability of all coordinate tokens at coordinate slots", "nats"),
)

COORD_DIAG_ENTRIES = (
    *(
        MetricInfo(key=f"coord_diag/{leaf}", meaning=meaning, unit=unit, better="lower")
        for leaf, meaning, unit in _BINS_AND_NATS
    ),
    _rate("coord_diag/w1", "Wasserstein-1 distance to that Gaussian / 999 bins", "lower"),
    _rate("coord_diag/p_gt_mean", "mean probability of the true bin among the bins", "higher"),
    _rate("coord_diag/acc_top5", "true bin among the five most probable bins", "higher"),
    MetricInfo(
        key="coord_diag/margin_mean",
        meaning="mean (largest bin logit - true bin's logit)",
        unit="logits",
        better="none",
    ),
    _rate(
        "coord_diag/coord_vocab_mass",
        "mean probability of all coordinate tokens at coordinate slots",
        "higher",
    ),
    _rate(
        "coord_diag/text_coord_vocab_mass",
        "mean probability of all coordinate tokens at all other tokens",
        "lower",
    ),
    _rate(
        "coord_diag/flip_coord_to_noncoord",
        "coordinate slots whose most probable token is no coordinate",
        "lower",
    ),
    *(
        _rate(
            f"coord_diag/flip_{kind}_to_coord",
            f"{tokens} whose most probable token is a coordinate",
            "lower",
        )
        for kind, tokens in (
            ("text", "tokens that are no coordinates"),
            ("desc", "tokens of descriptions"),
            ("format", "tokens of structure, the end token too,"),
        )
    ),
    _rate(
        "coord_diag/multimodal_rate",
        "coordinate slots whose bins have two separate modes, so that their mean lies in neither",
        "none",
    ),
)
"""At temperature 1, whatever a model was trained with; see docs/probe.md."""

__all__ = ["COORD_DIAG_ENTRIES"]
