"""Loss terms, one per file: pure functions that return a sum and a count."""

from coordeval.training.losses.gate import gate
from coordeval.training.losses.hard_ce import hard_ce
from coordeval.training.losses.soft_ce import soft_ce
from coordeval.training.losses.stage1 import Stage1Weights, stage1_terms, weighted_total
from coordeval.training.losses.targets import gaussian_target
from coordeval.training.losses.term import LossTerm
from coordeval.training.losses.text_ce import text_ce
from coordeval.training.losses.w1 import w1

__all__ = [
    "LossTerm",
    "Stage1Weights",
    "gate",
    "gaussian_target",
    "hard_ce",
    "soft_ce",
    "stage1_terms",
    "text_ce",
    "w1",
    "weighted_total",
]
