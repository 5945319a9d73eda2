"""Diagnostics taken in passing, from the logits that the loss is computed from anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from coordeval.training.data.labels import DESCRIPTION
from coordeval.training.data.positions import shifted
from coordeval.training.diagnostics.totals import totals_of
from coordeval.training.diagnostics.values import diagnose, targets_from_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import Tensor

    from coordeval.training.diagnostics.totals import Totals


def observer(
    batch: Mapping[str, Any], coord_ids_K: Tensor, into: list[Totals]
) -> Callable[[Tensor, Tensor], None]:
    """An `observe` for `Stage1Objective.compute` that appends every chunk's totals to `into`.

    Positions that no term of the objective looks at are not seen, and so not diagnosed.
    """
    places = shifted(batch)
    coord_ids_K = coord_ids_K.to(places.labels_N.device)
    targets = targets_from_labels(places.labels_N, coord_ids_K, places.kinds_N == DESCRIPTION)

    def observe(rows_n: Tensor, logits_nV: Tensor) -> None:
        with torch.no_grad(), torch.autocast(logits_nV.device.type, enabled=False):
            diagnosis = diagnose(logits_nV.detach(), targets.rows(rows_n), coord_ids_K)
        into.append(totals_of(diagnosis))

    return observe


__all__ = ["observer"]
