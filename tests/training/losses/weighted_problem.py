"""A small batch of weighted text, slots and unlikely tokens, and its loss written down plainly."""

import torch
from naive_objective import naive_terms

from coordeval.training.config import BoxLossConfig
from coordeval.training.losses import Stage1Objective

V, K, H, N = 70, 30, 5, 30
COORD_IDS = torch.arange(V - 1, V - 1 - K, -1)
END_ID = 2
BOXES = torch.tensor([[16, 17, 18, 19], [23, 22, 21, 20]])
WEIGHTS = {
    "text_ce": 1.3,
    "text_gate": 0.4,
    "hard_ce": 0.5,
    "soft_ce": 2.0,
    "w1": 1.0,
    "gate": 1.5,
    "ciou": 0.7,
    "unlikelihood": 0.9,
}
# Unsupervised rows, text rows (one twice), slot rows; text and coordinate tokens as bad ones.
UNLIKELY = torch.tensor(
    [[0, 5], [1, int(COORD_IDS[4])], [6, 9], [6, int(COORD_IDS[0])], [17, 11], [25, 60], [25, 7]]
)


def problem(seed=0, dtype=torch.float64):
    """Hidden states, head (both learn), labels and text weights (0, fractions, above 1)."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, H, generator=draw, dtype=torch.float64)
    weight = torch.randn(V, H, generator=draw, dtype=torch.float64)
    labels = torch.full((N,), -100)
    labels[4:16] = torch.randint(3, V - K, (12,), generator=draw)
    labels[[10, 15]] = END_ID
    labels[16:26] = COORD_IDS[torch.randint(0, K, (10,), generator=draw)]
    for x1, y1, x2, y2 in BOXES.tolist():
        labels[x1], labels[x2] = COORD_IDS[2], COORD_IDS[17]
        labels[y1], labels[y2] = COORD_IDS[6], COORD_IDS[29]
    weights = torch.rand(N, generator=draw) * 2
    weights[[5, 9, 15, 18]] = 0
    return (
        hidden.to(dtype).requires_grad_(True),
        weight.to(dtype).requires_grad_(True),
        labels,
        weights,
    )


def objective(names=None, **options):
    """An objective of the named terms, all of them without names."""
    weights = WEIGHTS if names is None else {name: WEIGHTS[name] for name in names}
    return Stage1Objective(
        weights, COORD_IDS, end_ids=[END_ID], box=BoxLossConfig(), **({"chunk": 4} | options)
    )


def reference(hidden, weight, labels, text_weights, unlikely, *, temperature=1.0):
    """(Sums, counts) of all terms by loops over positions, in float64 with torch's autograd."""
    logits = hidden.double() @ weight.double().T
    text_weights = [1.0] * len(labels) if text_weights is None else text_weights.tolist()
    coords = set(COORD_IDS.tolist())
    kept = labels.clone()
    total, count = logits.sum() * 0, 0.0
    for row, (label, one) in enumerate(zip(labels.tolist(), text_weights, strict=True)):
        if label == -100 or label in coords:
            continue
        total = total - one * torch.log_softmax(logits[row], 0)[label]
        count += one
        if one == 0:
            kept[row] = -100
    sums = naive_terms(
        logits, kept, COORD_IDS, boxes=BOXES, end_ids=(END_ID,), temperature=temperature
    )
    sums["text_ce"] = total
    sums["unlikelihood"] = logits.sum() * 0
    for row, token in unlikely.tolist():
        others = torch.cat([logits[row, :token], logits[row, token + 1 :]])
        gap = torch.logsumexp(logits[row], 0) - torch.logsumexp(others, 0)
        sums["unlikelihood"] = sums["unlikelihood"] + gap
    slots = sum(int(label) in coords for label in labels)
    gated = sum(int(label) not in (*coords, END_ID, -100) for label in kept)
    counts = dict.fromkeys(("hard_ce", "soft_ce", "w1", "gate"), slots)
    counts |= dict.fromkeys(("smooth_l1", "ciou", "giou"), len(BOXES))
    counts |= {"text_ce": count, "text_gate": gated, "unlikelihood": len(unlikely)}
    return sums, counts
