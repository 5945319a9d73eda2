"""Other samples to the flat `oracle/*` and `oracle_loc/*` keys, and their per-image columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from coordeval.metrics.f1 import f1_value, ratio
from coordeval.metrics.f1_metrics import iou_name
from coordeval.metrics.protocols import COCO_THRESHOLDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coordeval.metrics.columns import Columns
    from coordeval.metrics.oracle import Oracle, OracleSide

ORACLE_FAMILIES: dict[str, str] = {"oracle": "aware", "oracle_loc": "agnostic"}
ORACLE_COUNTS = ("missed", "recoverable", "systematic")
ORACLE_RATIOS = (
    "recoverable_rate",
    "recover_fraction",
    "recall",
    "recall_sample",
    "recall_union",
    "f1_sample",
    "f1_best",
)


def oracle_per_image(columns: Columns, oracle: Oracle) -> dict[str, NDArray[np.int64]]:
    """Sufficient statistics per image, `<family>_<name>@<iou>`; sums give the metrics.

    `oracle_images` and `oracle_trials` say which images take part, and with how many samples.
    """
    out: dict[str, NDArray[np.int64]] = {
        "oracle_images": (oracle.trials > 0).astype(np.int64),
        "oracle_samples": oracle.trials,
        "oracle_failed": oracle.failed,
    }
    for family, name in ORACLE_FAMILIES.items():
        side: OracleSide = getattr(oracle, name)
        for row, threshold in enumerate(oracle.thresholds):
            at = iou_name(threshold)
            out |= {
                f"{family}_{key}@{at}": values
                for key, values in _row(columns, oracle, side, row).items()
            }
    return out


def _row(
    columns: Columns, oracle: Oracle, side: OracleSide, row: int
) -> dict[str, NDArray[np.int64]]:
    image = columns.gt.shapes.image
    missed, found_in = side.missed[row], side.found_in[row]
    num = columns.num_images

    def per_image(which: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(image[which], minlength=num)

    recovered = np.bincount(image, weights=missed * found_in, minlength=num).astype(np.int64)
    num_missed = per_image(missed)
    out = {
        "gt": side.headline[row, 0] + side.headline[row, 2],
        "missed": num_missed,
        "recoverable": per_image(missed & (found_in > 0)),
        "systematic": per_image(missed & (found_in == 0)),
        "recovered": recovered,
        "trials": num_missed * oracle.trials,
    }
    for name, counts in (("sample", side.samples[row]), ("best", side.best[row])):
        out |= {f"{name}_{leaf}": counts[place] for place, leaf in enumerate(("tp", "fp", "fn"))}
    return out


def oracle_metrics(
    columns: Columns, oracle: Oracle | None, thresholds: tuple[float, ...], headline: int
) -> dict[str, float | None]:
    """`oracle/...` class-aware and `oracle_loc/...` class ignored, all micro.

    Counts and ratios at the threshold of row `headline`, means of the ratios over .50:.95 where
    the protocol has them all. All None without other samples; a ratio with denominator 0 is None.
    """
    if oracle is None:
        return dict.fromkeys(_keys(thresholds, headline))
    sums = {name: int(values.sum()) for name, values in oracle_per_image(columns, oracle).items()}
    images = sums["oracle_images"]
    out: dict[str, float | None] = {
        "oracle/images": images,
        "oracle/samples_per_image": ratio(sums["oracle_samples"], images),
        "oracle/errors": sums["oracle_failed"],
    }
    for family in ORACLE_FAMILIES:
        values = {
            threshold: _values(sums, f"{family}_", iou_name(threshold)) for threshold in thresholds
        }
        at = iou_name(thresholds[headline])
        here = values[thresholds[headline]]
        out |= {f"{family}/{at}/{leaf}": value for leaf, value in here.items()}
        if set(COCO_THRESHOLDS) <= set(thresholds):
            for leaf in ORACLE_RATIOS:
                parts = [values[threshold][leaf] for threshold in COCO_THRESHOLDS]
                known = [part for part in parts if part is not None]
                whole = len(known) == len(parts)
                out[f"{family}/mean/{leaf}"] = sum(known) / len(known) if whole else None
    return out


def _values(sums: dict[str, int], prefix: str, at: str) -> dict[str, float | None]:
    def total(name: str) -> int:
        return sums[f"{prefix}{name}@{at}"]

    gt, missed, recoverable = total("gt"), total("missed"), total("recoverable")
    return {
        "missed": missed,
        "recoverable": recoverable,
        "systematic": total("systematic"),
        "recoverable_rate": ratio(recoverable, missed),
        "recover_fraction": ratio(total("recovered"), total("trials")),
        "recall": ratio(gt - missed, gt),
        "recall_sample": ratio(total("sample_tp"), total("sample_tp") + total("sample_fn")),
        "recall_union": ratio(gt - missed + recoverable, gt),
        "f1_sample": f1_value(total("sample_tp"), total("sample_fp"), total("sample_fn")),
        "f1_best": f1_value(total("best_tp"), total("best_fp"), total("best_fn")),
    }


def _keys(thresholds: tuple[float, ...], headline: int) -> list[str]:
    keys = ["oracle/images", "oracle/samples_per_image", "oracle/errors"]
    for family in ORACLE_FAMILIES:
        at = iou_name(thresholds[headline])
        keys += [f"{family}/{at}/{leaf}" for leaf in (*ORACLE_COUNTS, *ORACLE_RATIOS)]
        if set(COCO_THRESHOLDS) <= set(thresholds):
            keys += [f"{family}/mean/{leaf}" for leaf in ORACLE_RATIOS]
    return keys


__all__ = [
    "ORACLE_COUNTS",
    "ORACLE_FAMILIES",
    "ORACLE_RATIOS",
    "oracle_metrics",
    "oracle_per_image",
]
