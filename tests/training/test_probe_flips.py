"""Text tokens whose most probable token is a coordinate are counted, by kind."""

import torch

from coordeval.training.diagnostics.totals import add_up, totals_of
from coordeval.training.diagnostics.values import (
    COORDINATE,
    DESCRIPTION,
    NO_BIN,
    STRUCTURE,
    Targets,
    diagnose,
)


def test_flips_of_text_to_coordinates():
    """Shares by kind, the same however positions are cut into batches."""
    coord_ids = torch.arange(5, 1005)
    logits = torch.zeros(6, 1010)
    logits[torch.arange(6), torch.tensor([7, 2, 9, 3, 8, 1])] = 5.0
    kinds = torch.tensor([DESCRIPTION, DESCRIPTION, STRUCTURE, STRUCTURE, STRUCTURE, COORDINATE])
    bins = torch.full((6,), NO_BIN)
    bins[5] = 3
    labels = torch.tensor([1, 2, 1, 3, 4, 8])
    whole = diagnose(logits, Targets(labels, kinds, bins), coord_ids)
    for totals in (totals_of(whole), add_up(totals_of(part) for part in whole.split([2, 1, 3]))):
        metrics = totals.metrics()
        assert metrics["coord_diag/flip_desc_to_coord"] == 1 / 2
        assert metrics["coord_diag/flip_format_to_coord"] == 2 / 3
        assert metrics["coord_diag/flip_text_to_coord"] == 3 / 5
        assert metrics["coord_diag/flip_coord_to_noncoord"] == 1.0
