"""The stage-1 objective written down once more, plainly, in float64 and with torch's autograd."""

import math

import torch


def naive_terms(
    logits_NV,
    labels,
    coord_ids,
    *,
    boxes=(),
    end_ids=(),
    temperature=1.0,
    sigma=2.0,
    truncate=16,
    hard_ce_over="vocabulary",
    decode="expectation",
    box_temperature=1.0,
    beta=1.0,
):
    """Sum of every term, one position at a time; shares no line with the package."""
    bin_of = {int(token): k for k, token in enumerate(coord_ids)}
    num_bins = len(bin_of)
    ids = torch.tensor([int(token) for token in coord_ids])
    zero = logits_NV.sum() * 0
    sums = dict.fromkeys(
        (
            "text_ce",
            "text_gate",
            "hard_ce",
            "soft_ce",
            "w1",
            "gate",
            "smooth_l1",
            "ciou",
            "giou",
        ),
        zero,
    )
    for z, label in zip(logits_NV, labels.tolist(), strict=True):
        if label == -100:
            continue
        probs_T = torch.softmax(z / temperature, 0)
        if label not in bin_of:
            sums["text_ce"] = sums["text_ce"] - torch.log_softmax(z, 0)[label]
            if label not in end_ids:
                sums["text_gate"] = sums["text_gate"] - torch.log(1 - probs_T[ids].sum())
            continue
        true_bin = bin_of[label]
        coord = z[ids]
        over = z if hard_ce_over == "vocabulary" else coord
        sums["hard_ce"] = sums["hard_ce"] + torch.logsumexp(over, 0) - z[label]
        weights = [
            0.0
            if truncate is not None and abs(k - true_bin) > truncate
            else math.exp(-0.5 * ((k - true_bin) / sigma) ** 2)
            for k in range(num_bins)
        ]
        target = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        log_p = torch.log_softmax(coord / temperature, 0)
        sums["soft_ce"] = sums["soft_ce"] - (target * log_p).sum()
        gap = (log_p.exp().cumsum(0) - target.cumsum(0)).abs().sum() / (num_bins - 1)
        sums["w1"] = sums["w1"] + gap
        sums["gate"] = sums["gate"] - torch.log(probs_T[ids].sum())
    for box in boxes:
        pred = torch.stack(
            [_decoded(logits_NV[i][ids] / box_temperature, decode) for i in box.tolist()]
        )
        true = [bin_of[int(labels[i])] / (num_bins - 1) for i in box.tolist()]
        for name, value in _box_losses(pred, true, beta).items():
            sums[name] = sums[name] + value
    return sums


def _decoded(coord, decode):
    last = len(coord) - 1
    soft = (torch.softmax(coord, 0) * torch.arange(last + 1)).sum() / last
    hard = coord.argmax().double() / last
    if decode == "expectation":
        return soft
    return hard if decode == "argmax" else soft + (hard - soft).detach()


def _box_losses(pred, true, beta):
    px1, px2 = (pred[0], pred[2]) if pred[0] <= pred[2] else (pred[2], pred[0])
    py1, py2 = (pred[1], pred[3]) if pred[1] <= pred[3] else (pred[3], pred[1])
    tx1, tx2 = min(true[0], true[2]), max(true[0], true[2])
    ty1, ty2 = min(true[1], true[3]), max(true[1], true[3])
    gaps = [abs(px1 - tx1), abs(py1 - ty1), abs(px2 - tx2), abs(py2 - ty2)]
    l1 = sum(g * g / (2 * beta) if g < beta else g - beta / 2 for g in gaps) / 4

    def at_most(value, bound):
        return value if value <= bound else torch.tensor(bound, dtype=torch.float64)

    def at_least(value, bound):
        return value if value >= bound else torch.tensor(bound, dtype=torch.float64)

    inter = at_least(at_most(px2, tx2) - at_least(px1, tx1), 0.0)
    inter = inter * at_least(at_most(py2, ty2) - at_least(py1, ty1), 0.0)
    union = (px2 - px1) * (py2 - py1) + (tx2 - tx1) * (ty2 - ty1) - inter
    iou = inter / union
    width = at_least(px2, tx2) - at_most(px1, tx1)
    height = at_least(py2, ty2) - at_most(py1, ty1)
    rho = ((px1 + px2 - tx1 - tx2) ** 2 + (py1 + py2 - ty1 - ty2) ** 2) / 4
    angle = math.atan((tx2 - tx1) / (ty2 - ty1)) - torch.atan((px2 - px1) / (py2 - py1))
    v = 4 / math.pi**2 * angle**2
    alpha = (v / (1 - iou + v)).detach()
    return {
        "smooth_l1": l1,
        "ciou": 1 - iou + rho / (width**2 + height**2) + alpha * v,
        "giou": 1 - iou + (width * height - union) / (width * height),
    }
