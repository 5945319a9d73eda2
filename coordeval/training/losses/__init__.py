"""Loss terms, one per file: pure functions that return a sum and a count."""

from coordeval.training.losses.box_decode import decode_boxes
from coordeval.training.losses.box_geometry import canonical_boxes
from coordeval.training.losses.ciou import ciou, ciou_per_box
from coordeval.training.losses.gate import gate
from coordeval.training.losses.giou import giou, giou_per_box
from coordeval.training.losses.hard_ce import hard_ce
from coordeval.training.losses.objective import Stage1Objective
from coordeval.training.losses.sigma import sigma_at
from coordeval.training.losses.smooth_l1 import smooth_l1, smooth_l1_per_box
from coordeval.training.losses.soft_ce import soft_ce
from coordeval.training.losses.stage1 import Stage1Weights, stage1_terms, weighted_total
from coordeval.training.losses.targets import gaussian_target
from coordeval.training.losses.term import LossTerm
from coordeval.training.losses.text_ce import text_ce
from coordeval.training.losses.text_gate import text_gate
from coordeval.training.losses.unlikelihood import unlikelihood
from coordeval.training.losses.w1 import w1

__all__ = [
    "LossTerm",
    "Stage1Objective",
    "Stage1Weights",
    "canonical_boxes",
    "ciou",
    "ciou_per_box",
    "decode_boxes",
    "gate",
    "gaussian_target",
    "giou",
    "giou_per_box",
    "hard_ce",
    "sigma_at",
    "smooth_l1",
    "smooth_l1_per_box",
    "soft_ce",
    "stage1_terms",
    "text_ce",
    "text_gate",
    "unlikelihood",
    "w1",
    "weighted_total",
]
