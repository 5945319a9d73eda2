"""Box decodes and box losses against independent float64 arithmetic, closed forms and bad boxes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coordeval.training.losses import (
    canonical_boxes,
    ciou,
    ciou_per_box,
    decode_boxes,
    giou,
    giou_per_box,
    smooth_l1,
    smooth_l1_per_box,
)

K = 1000


def _reference(pred, true):
    """IoU, GIoU loss and CIoU loss of one pair, corners in any order, in plain Python floats."""
    px1, px2 = sorted((pred[0], pred[2]))
    py1, py2 = sorted((pred[1], pred[3]))
    tx1, tx2 = sorted((true[0], true[2]))
    ty1, ty2 = sorted((true[1], true[3]))
    inter = max(0.0, min(px2, tx2) - max(px1, tx1)) * max(0.0, min(py2, ty2) - max(py1, ty1))
    union = (px2 - px1) * (py2 - py1) + (tx2 - tx1) * (ty2 - ty1) - inter
    width, height = max(px2, tx2) - min(px1, tx1), max(py2, ty2) - min(py1, ty1)
    iou = inter / union
    giou_loss = 1 - iou + (width * height - union) / (width * height)
    rho = ((px1 + px2 - tx1 - tx2) ** 2 + (py1 + py2 - ty1 - ty2) ** 2) / 4
    angle = math.atan2(tx2 - tx1, ty2 - ty1) - math.atan2(px2 - px1, py2 - py1)
    v = 4 / math.pi**2 * angle**2
    alpha = v / (1 - iou + v) if v else 0.0
    return iou, giou_loss, 1 - iou + rho / (width**2 + height**2) + alpha * v


def _random_boxes(count, seed, *, ordered):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 1, size=(count, 4))
    if ordered:
        boxes = np.concatenate(
            [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:]) + 0.01],
            axis=1,
        )
    return boxes


@pytest.mark.parametrize("ordered", [True, False])
def test_overlap_losses_equal_float64_references(ordered):
    """GIoU and CIoU of random pairs, predictions inverted or not, agree to 1e-6."""
    pred, true = _random_boxes(300, 1, ordered=ordered), _random_boxes(300, 2, ordered=True)
    expected = np.array([_reference(p, t) for p, t in zip(pred, true, strict=True)])
    pred_M4, true_M4 = torch.from_numpy(pred).float(), torch.from_numpy(true).float()
    # The reference reads the same rounded numbers: a thin union magnifies rounding of inputs.
    rounded = [
        _reference(p, t)
        for p, t in zip(pred_M4.double().tolist(), true_M4.double().tolist(), strict=True)
    ]
    for column, loss in ((1, giou_per_box), (2, ciou_per_box)):
        np.testing.assert_allclose(
            loss(torch.from_numpy(pred), torch.from_numpy(true)).numpy(),
            expected[:, column],
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            loss(pred_M4, true_M4).numpy(), [row[column] for row in rounded], rtol=1e-6, atol=2e-7
        )


@pytest.mark.parametrize("beta", [1.0, 0.1, 1 / 999])
def test_smooth_l1_equals_its_float64_reference(beta):
    """Smooth L1 is the mean over the four canonical coordinates, quadratic below beta."""
    pred, true = _random_boxes(200, 3, ordered=False), _random_boxes(200, 4, ordered=True)
    expected = []
    for p, t in zip(pred, true, strict=True):
        box = [min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3])]
        gaps = [abs(a - b) for a, b in zip(box, t, strict=True)]
        costs = [g * g / (2 * beta) if g < beta else g - beta / 2 for g in gaps]
        expected.append(sum(costs) / 4)
    got = smooth_l1_per_box(torch.from_numpy(pred).float(), torch.from_numpy(true), beta=beta)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_smooth_l1_of_an_inverted_box_is_that_of_its_corners_in_order():
    """Swapped corners cost what the box itself costs, in every box loss alike."""
    true_M4 = torch.tensor([[0.2, 0.3, 0.6, 0.9]])
    for pred in ([0.5, 0.8, 0.1, 0.2], [0.5, 0.2, 0.1, 0.8], [0.1, 0.8, 0.5, 0.2]):
        for loss in (smooth_l1_per_box, giou_per_box, ciou_per_box):
            swapped = loss(torch.tensor([pred]), true_M4)
            in_order = loss(torch.tensor([[0.1, 0.2, 0.5, 0.8]]), true_M4)
            torch.testing.assert_close(swapped, in_order, rtol=0, atol=0)
    as_they_come = 0.5 * ((0.5 - 0.2) ** 2 + (0.8 - 0.3) ** 2 + (0.1 - 0.6) ** 2 + (0.2 - 0.9) ** 2)
    ours = float(smooth_l1_per_box(torch.tensor([[0.5, 0.8, 0.1, 0.2]]), true_M4))
    assert ours < as_they_come / 4


def test_closed_forms():
    """Equal boxes cost 0; far ones of equal shape 1 + d^2/c^2 (CIoU) and 1 + empty share (GIoU)."""
    box = torch.tensor([[0.1, 0.2, 0.4, 0.9]])
    for loss in (smooth_l1_per_box, giou_per_box, ciou_per_box):
        assert float(loss(box, box)) == pytest.approx(0.0, abs=1e-7)
    left, right = torch.tensor([[0.0, 0.0, 0.1, 0.1]]), torch.tensor([[0.9, 0.9, 1.0, 1.0]])
    assert float(ciou_per_box(left, right)) == pytest.approx(1 + 0.81, rel=1e-6)
    assert float(giou_per_box(left, right)) == pytest.approx(2 - 0.02, rel=1e-6)
    inner, outer = torch.tensor([[0.25, 0.25, 0.75, 0.75]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert float(ciou_per_box(inner, outer)) == pytest.approx(0.75, rel=1e-6)
    assert float(giou_per_box(inner, outer)) == pytest.approx(0.75, rel=1e-6)
    half_a_unit = torch.tensor([[0.5, 0.0, 1.0, 1.0]])
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert float(smooth_l1_per_box(half_a_unit, whole)) == pytest.approx(0.125 / 4, rel=1e-6)


def _finite_difference(function, values, step=1e-6):
    out = torch.zeros_like(values)
    flat, grad = values.reshape(-1), out.reshape(-1)
    for i in range(flat.numel()):
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * step
            grad[i] += sign * float(function(moved.reshape(values.shape))) / (2 * step)
    return out


def _shape_penalty(pred, true):
    """The v of CIoU for one pair."""
    both = torch.tensor([pred, true], dtype=torch.float64)
    p, t = canonical_boxes(both).tolist()
    angles = [math.atan2(box[2] - box[0], box[3] - box[1]) for box in (p, t)]
    return 4 / math.pi**2 * (angles[1] - angles[0]) ** 2


def test_gradients_equal_finite_differences():
    """Smooth L1 and GIoU have the gradient of their value; CIoU that of its value at fixed alpha."""
    pred = torch.from_numpy(_random_boxes(20, 5, ordered=False))
    true = torch.from_numpy(_random_boxes(20, 6, ordered=True))
    shapes = [_shape_penalty(p, t) for p, t in zip(pred.tolist(), true.tolist(), strict=True)]
    ious = [_reference(p, t)[0] for p, t in zip(pred.tolist(), true.tolist(), strict=True)]
    alphas = [v / (1 - iou + v) for v, iou in zip(shapes, ious, strict=True)]

    def ciou_at_fixed_alpha(boxes):
        total = 0.0
        for p, t, alpha in zip(boxes.tolist(), true.tolist(), alphas, strict=True):
            iou, _, loss = _reference(p, t)
            v = _shape_penalty(p, t)
            total += loss - v * v / (1 - iou + v) + alpha * v
        return total

    cases = {
        "smooth_l1": (lambda b: smooth_l1_per_box(b, true, beta=0.2).sum(), None),
        "giou": (lambda b: giou_per_box(b, true).sum(), None),
        "ciou": (lambda b: ciou_per_box(b, true).sum(), ciou_at_fixed_alpha),
    }
    for name, (loss, reference) in cases.items():
        leaf = pred.clone().requires_grad_(True)
        loss(leaf).backward()
        expected = _finite_difference(reference or loss, pred)
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-5, atol=1e-6, msg=name)


BIN = st.integers(0, 999).map(lambda k: k / 999)
ANY_BOX = st.tuples(BIN, BIN, BIN, BIN)


@settings(max_examples=200, deadline=None)
@given(pred=ANY_BOX, true=ANY_BOX, flat=st.sampled_from(["no", "pred", "both", "equal"]))
def test_no_box_gives_anything_but_finite_numbers(pred, true, flat):
    """Inverted, flat, empty and equal boxes: values are finite and in range, gradients finite."""
    if flat in ("pred", "both"):
        pred = (pred[0], pred[1], pred[0], pred[3])
    if flat == "both":
        true = (true[0], true[1], true[0], true[1])
    if flat == "equal":
        pred = true
    true_M4 = torch.tensor([true])
    for loss, top in ((smooth_l1_per_box, 0.5), (giou_per_box, 2.0), (ciou_per_box, 3.0)):
        pred_M4 = torch.tensor([pred]).requires_grad_(True)
        value = loss(pred_M4, true_M4)
        value.sum().backward()
        assert -1e-6 <= float(value.detach()) <= top + 1e-6
        assert torch.isfinite(pred_M4.grad).all()


def test_a_box_without_width_learns_to_open():
    """Equal corners are pulled apart towards a true box around them."""
    true_M4 = torch.tensor([[0.2, 0.2, 0.8, 0.8]])
    for loss in (giou_per_box, ciou_per_box):
        pred_M4 = torch.tensor([[0.5, 0.3, 0.5, 0.7]]).requires_grad_(True)
        loss(pred_M4, true_M4).sum().backward()
        assert pred_M4.grad[0, 0] > 0 > pred_M4.grad[0, 2]


def test_decodes():
    """Two equal peaks: the expectation lies between them, argmax on one; T flattens."""
    logits = torch.full((1, 4, K), -1e4)
    logits[0, :, 0] = logits[0, :, 999] = 0.0
    assert decode_boxes(logits)[0].tolist() == pytest.approx([0.5] * 4, rel=1e-6)
    logits[0, :, 999] = 1.0
    assert decode_boxes(logits, decode="argmax")[0].tolist() == [1.0] * 4
    share = math.exp(0.5) / (1 + math.exp(0.5))
    assert decode_boxes(logits, temperature=2.0)[0].tolist() == pytest.approx([share] * 4)
    assert decode_boxes(logits[:0]).shape == (0, 4)


def test_straight_through_has_the_value_of_argmax_and_the_gradient_of_the_expectation():
    """Bit for bit the hard value; exactly the soft gradient; argmax has none at all."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 4, K, generator=generator)
    weight = torch.randn(5, 4, generator=generator)
    gradients = {}
    for decode in ("expectation", "straight_through"):
        leaf = logits.clone().requires_grad_(True)
        (decode_boxes(leaf, decode=decode, temperature=0.7) * weight).sum().backward()
        gradients[decode] = leaf.grad
    torch.testing.assert_close(gradients["expectation"], gradients["straight_through"])
    hard = decode_boxes(logits.requires_grad_(True), decode="argmax")
    assert not hard.requires_grad
    through = decode_boxes(logits, decode="straight_through", temperature=0.7)
    assert torch.equal(through.detach(), hard)
    assert torch.equal(hard, logits.argmax(2).float() / 999)


def test_expectation_equals_its_float64_reference():
    """E_p[k] / 999 at a temperature, from bfloat16 logits as from float32, to 1e-6."""
    logits = torch.randn(6, 4, K, generator=torch.Generator().manual_seed(0)) * 4
    for given_logits in (logits, logits.bfloat16()):
        wide = given_logits.double().numpy() / 1.3
        probs = np.exp(wide - wide.max(2, keepdims=True))
        probs /= probs.sum(2, keepdims=True)
        expected = (probs * np.arange(K)).sum(2) / 999
        got = decode_boxes(given_logits, temperature=1.3)
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_sums_counts_and_masks():
    """A term sums the kept boxes alone, and NaN in a masked box reaches nothing; none is 0."""
    pred = torch.tensor([[0.1, 0.1, 0.5, 0.5], [math.nan] * 4, [0.2, 0.1, 0.5, 0.9]])
    true = torch.tensor([[0.2, 0.1, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.4, 0.8]])
    keep = torch.tensor([True, False, True])
    for term, per_box in (
        (smooth_l1, smooth_l1_per_box),
        (giou, giou_per_box),
        (ciou, ciou_per_box),
    ):
        leaf = pred.clone().requires_grad_(True)
        got = term(leaf, true, mask_M=keep)
        assert got.num_tokens == 2
        torch.testing.assert_close(got.loss_sum, per_box(pred[keep], true[keep]).sum())
        got.loss_sum.backward()
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad[1].abs().max() == 0
        nothing = term(leaf, true, mask_M=torch.zeros(3, dtype=torch.bool))
        assert (float(nothing.loss_sum.detach()), nothing.num_tokens) == (0.0, 0)
        nothing.mean.backward()


def test_misuse_is_refused():
    """Unknown decodes, bad temperatures and betas, and shapes that do not fit raise ValueError."""
    logits, boxes = torch.zeros(1, 4, K), torch.zeros(2, 4)
    with pytest.raises(ValueError, match="decode"):
        decode_boxes(logits, decode="median")
    with pytest.raises(ValueError, match="temperature"):
        decode_boxes(logits, temperature=0.0)
    with pytest.raises(ValueError, match="logits of boxes"):
        decode_boxes(logits[:, :3])
    with pytest.raises(ValueError, match="beta"):
        smooth_l1_per_box(boxes, boxes, beta=0.0)
    for loss in (smooth_l1_per_box, giou_per_box, ciou_per_box):
        with pytest.raises(ValueError, match="boxes are"):
            loss(boxes, boxes[:1])
