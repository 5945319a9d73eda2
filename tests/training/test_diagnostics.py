"""Coordinate diagnostics on synthetic logits: closed forms, float64 references, accumulation."""

import math

import numpy as np
import pytest
import torch

from coordeval.training.diagnostics.totals import METRIC_KEYS, Totals, add_up, totals_of
from coordeval.training.diagnostics.values import (
    COORDINATE,
    DESCRIPTION,
    NO_BIN,
    STRUCTURE,
    Targets,
    diagnose,
    joined,
    multimodal_slots,
    targets_from_labels,
)

V, K, FIRST = 1100, 1000, 40
COORD_IDS = torch.arange(FIRST, FIRST + K)
EMPTY = -1e9


def slot_metrics(coord_logits, bins, others=None):
    """Metrics of slots with these bin logits, and these logits of everything else (none: -1e9)."""
    logits = torch.full((len(bins), V), EMPTY)
    logits[:, FIRST : FIRST + K] = torch.as_tensor(coord_logits, dtype=torch.float32)
    if others is not None:
        logits[:, :FIRST] = others
    labels = torch.tensor(bins) + FIRST
    return totals_of(diagnose(logits, targets_from_labels(labels, COORD_IDS), COORD_IDS)).metrics()


def point(*places, height=100.0):
    row = np.full((1, K), EMPTY)
    row[0, list(places)] = height
    return row


@pytest.mark.parametrize("true_bin", [0, 17, 500, 999])
def test_uniform_distribution(true_bin):
    """Equal logits: the mean is 499.5, every bin has 1/1000, nothing stands out."""
    got = slot_metrics(np.zeros((1, K)), [true_bin])
    distance = np.abs(np.arange(K) - true_bin).mean()
    assert got["coord_diag/expected_bin_mae"] == pytest.approx(abs(499.5 - true_bin), abs=1e-3)
    assert got["coord_diag/w1_to_delta"] == pytest.approx(distance, rel=1e-6)
    assert got["coord_diag/p_gt_mean"] == pytest.approx(1e-3, rel=1e-6)
    assert got["coord_diag/ce"] == pytest.approx(math.log(K), rel=1e-6)
    assert got["coord_diag/soft_ce"] == pytest.approx(math.log(K), rel=1e-6)
    assert got["coord_diag/margin_mean"] == 0.0
    assert got["coord_diag/acc_top5"] == 1.0
    assert got["coord_diag/multimodal_rate"] == 0.0
    assert got["coord_diag/coord_vocab_mass"] == 1.0


def test_uniform_over_the_whole_vocabulary():
    """With all of V logits equal the mass is K/V and the gate log(V/K)."""
    logits = torch.zeros(1, V)
    targets = targets_from_labels(torch.tensor([FIRST + 3]), COORD_IDS)
    got = totals_of(diagnose(logits, targets, COORD_IDS)).metrics()
    assert got["coord_diag/coord_vocab_mass"] == pytest.approx(K / V, rel=1e-6)
    assert got["coord_diag/gate"] == pytest.approx(math.log(V / K), rel=1e-5)


@pytest.mark.parametrize("true_bin", [0, 1, 500, 999])
def test_point_mass_on_the_true_bin(true_bin):
    """All mass on the truth: no error; W1 is what the Gaussian target spreads by itself."""
    got = slot_metrics(point(true_bin), [true_bin])
    weights = np.exp(-0.5 * ((np.arange(K) - true_bin) / 2.0) ** 2)
    weights[np.abs(np.arange(K) - true_bin) > 16] = 0.0
    weights /= weights.sum()
    spread = (weights * np.abs(np.arange(K) - true_bin)).sum()
    assert got["coord_diag/expected_bin_mae"] == 0.0
    assert got["coord_diag/expected_bin_abs_err_p90"] == 0.0
    assert got["coord_diag/w1_to_delta"] == 0.0
    assert got["coord_diag/p_gt_mean"] == 1.0
    assert got["coord_diag/acc_top5"] == 1.0
    assert got["coord_diag/margin_mean"] == 0.0
    assert got["coord_diag/ce"] == 0.0
    assert got["coord_diag/gate"] == 0.0
    assert got["coord_diag/w1"] == pytest.approx(spread / 999, rel=1e-5)
    assert got["coord_diag/flip_coord_to_noncoord"] == 0.0
    assert got["coord_token_acc"] == 1.0


@pytest.mark.parametrize("shift", [1, 16, 37, 400])
def test_point_mass_beside_the_true_bin(shift):
    """All mass d bins off costs d bins, and beyond the target's reach a W1 of d / 999."""
    got = slot_metrics(point(500 + shift), [500])
    assert got["coord_diag/expected_bin_mae"] == pytest.approx(shift, rel=1e-6)
    assert got["coord_diag/w1_to_delta"] == pytest.approx(shift, rel=1e-6)
    assert got["coord_diag/p_gt_mean"] == 0.0
    if shift >= 16:
        assert got["coord_diag/w1"] == pytest.approx(shift / 999, rel=1e-5)
    assert got["coord_diag/multimodal_rate"] == 0.0


def test_two_halves_at_the_ends():
    """Half on 0 and half on 999: the mean lies at 499.5, where nothing is, and that is counted."""
    got = slot_metrics(point(0, 999), [0])
    assert got["coord_diag/expected_bin_mae"] == pytest.approx(499.5, rel=1e-6)
    assert got["coord_diag/w1_to_delta"] == pytest.approx(499.5, rel=1e-6)
    assert got["coord_diag/p_gt_mean"] == pytest.approx(0.5)
    assert got["coord_diag/ce"] == pytest.approx(math.log(2), rel=1e-6)
    assert got["coord_diag/multimodal_rate"] == 1.0
    middle = slot_metrics(point(0, 999), [499])
    assert middle["coord_diag/expected_bin_mae"] == pytest.approx(0.5, rel=1e-5)


def test_soft_ce_is_the_entropy_where_the_model_is_the_target():
    """A Gaussian model of sigma 2 pays ln(2 sqrt(2 pi e)) = 2.112 nats, and no W1."""
    bins = np.arange(K)
    got = slot_metrics((-0.5 * ((bins - 500) / 2.0) ** 2)[None], [500])
    entropy = math.log(2 * math.sqrt(2 * math.pi * math.e))
    assert got["coord_diag/soft_ce"] == pytest.approx(entropy, abs=1e-4)
    assert got["coord_diag/w1"] == pytest.approx(0.0, abs=1e-6)


def test_a_slot_where_text_wins_is_a_flip_and_small_leaks_are_kept():
    """Half the mass outside is log 2, and a leak of e^-25 is not rounded to nothing."""
    got = slot_metrics(point(7, height=0.0), [7], others=torch.tensor([EMPTY] * 39 + [0.0]))
    assert got["coord_diag/gate"] == pytest.approx(math.log(2), rel=1e-6)
    assert got["coord_diag/coord_vocab_mass"] == pytest.approx(0.5, rel=1e-6)
    lost = slot_metrics(point(7, height=0.0), [7], others=torch.tensor([EMPTY] * 39 + [1.0]))
    assert lost["coord_diag/flip_coord_to_noncoord"] == 1.0
    assert lost["coord_token_acc"] == 0.0
    # What happens among the bins is another matter.
    assert lost["coord_diag/p_gt_mean"] == 1.0
    leak = slot_metrics(point(7, height=0.0), [7], others=torch.tensor([EMPTY] * 39 + [-25.0]))
    assert leak["coord_diag/gate"] == pytest.approx(math.exp(-25), rel=1e-5)


def test_top5_counts_only_bins_that_are_strictly_better():
    """Rank five is in, rank six is out, ties with the truth do not push it out."""
    logits = np.zeros((3, K))
    logits[0, :4], logits[1, :5], logits[2, :4] = 9.0, 9.0, 9.0
    logits[:, 500] = 5.0
    logits[2, 600:610] = 5.0
    labels = [500, 500, 500]
    full = torch.full((3, V), EMPTY)
    full[:, FIRST : FIRST + K] = torch.from_numpy(logits).float()
    targets = targets_from_labels(torch.tensor(labels) + FIRST, COORD_IDS)
    slots = diagnose(full, targets, COORD_IDS).slots
    assert slots.top5.tolist() == [True, False, True]
    assert slots.margin.tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("sigma", [1.0, 5.0, 30.0, 120.0, 1e4])
@pytest.mark.parametrize("centre", [0, 16, 480, 983, 999])
def test_one_peak_however_wide_is_not_multimodal(sigma, centre):
    """Gaussians of any width, at the borders too, have one mode."""
    logits = -0.5 * ((torch.arange(K) - centre) / sigma).double() ** 2
    probs = torch.softmax(logits, dim=0).float()[None]
    assert multimodal_slots(probs).tolist() == [False]


@pytest.mark.parametrize(
    ("places", "shares", "expected"),
    [
        ((100, 300), (0.7, 0.3), True),
        ((300, 100), (0.7, 0.3), True),
        ((100, 300), (0.81, 0.19), False),
        ((100, 117), (0.6, 0.4), False),
        ((100, 140), (0.6, 0.4), True),
        ((100, 500, 900), (0.4, 0.3, 0.3), True),
    ],
)
def test_a_second_mode_needs_a_fifth_and_a_valley(places, shares, expected):
    """Two point masses: the second holds a fifth at least, and lies beyond the first one's reach."""
    probs = torch.zeros(1, K)
    probs[0, list(places)] = torch.tensor(shares)
    assert multimodal_slots(probs).tolist() == [expected]


@pytest.fixture
def positions():
    """60 positions of all kinds, three slots among them without a coordinate; random logits."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 4, size=(60, V)).astype(np.float32)
    kinds = rng.integers(0, 3, size=60)
    bins = np.where(kinds == COORDINATE, rng.integers(0, K, size=60), NO_BIN)
    bins[np.flatnonzero(kinds == COORDINATE)[:3]] = NO_BIN
    labels = np.where(bins == NO_BIN, rng.integers(0, FIRST, size=60), bins + FIRST)
    sure = rng.random(60) < 0.5
    logits[np.flatnonzero(sure), labels[sure]] += 25.0
    return logits, labels, kinds, bins


def _targets(labels, kinds, bins):
    return Targets(*(torch.from_numpy(part.astype(np.int64)) for part in (labels, kinds, bins)))


def has_two_modes(row):
    """The definition of a second mode, bin by bin."""
    mass = [row[max(0, k - 16) : k + 17].sum() for k in range(K)]
    a = int(np.argmax(mass))
    return any(
        mass[b] >= 0.2 and min(mass[min(a, b) : max(a, b) + 1]) <= mass[b] / 2 for b in range(K)
    )


def test_modes_are_counted_as_defined():
    """Mixtures of peaks of all widths, heights and distances: the same as the definition."""
    draw = np.random.default_rng(4)
    k = np.arange(K)
    rows = []
    for _ in range(60):
        row = np.full(K, 1e-9)
        for _ in range(draw.integers(1, 4)):
            centre, width, height = draw.uniform(0, K), draw.uniform(1, 40), draw.uniform(0.1, 1)
            row += height / width * np.exp(-0.5 * ((k - centre) / width) ** 2)
        rows.append(row / row.sum())
    expected = [has_two_modes(row) for row in rows]
    assert 10 < sum(expected) < 50
    assert multimodal_slots(torch.from_numpy(np.array(rows))).tolist() == expected
    rate = slot_metrics(np.log(np.array(rows)), [5] * len(rows))["coord_diag/multimodal_rate"]
    assert rate == pytest.approx(np.mean(expected))


def reference(logits, labels, kinds, bins):
    """Every metric in float64 numpy, from the formulas."""
    logits = logits.astype(np.float64)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    mass = probs[:, FIRST : FIRST + K].sum(1)
    slot, known = kinds == COORDINATE, bins != NO_BIN
    right = logits.argmax(1) == labels
    coord = logits[known][:, FIRST : FIRST + K]
    p = np.exp(coord - coord.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    k, t = np.arange(K), bins[known]
    q = np.exp(-0.5 * ((k[None] - t[:, None]) / 2.0) ** 2)
    q[np.abs(k[None] - t[:, None]) > 16] = 0.0
    q /= q.sum(1, keepdims=True)
    err = np.abs((p * k).sum(1) - t)
    p_true = p[np.arange(len(t)), t]
    rank = (coord > coord[np.arange(len(t)), t][:, None]).sum(1)
    argmax = logits[slot].argmax(1)
    top = logits.argmax(1)
    to_coord = (top >= FIRST) & (top < FIRST + K)
    return {
        "coord_diag/flip_text_to_coord": to_coord[~slot].mean(),
        "coord_diag/flip_desc_to_coord": to_coord[kinds == DESCRIPTION].mean(),
        "coord_diag/flip_format_to_coord": to_coord[kinds == STRUCTURE].mean(),
        "coord_diag/expected_bin_mae": err.mean(),
        "coord_diag/expected_bin_abs_err_p90": np.quantile(err, 0.9),
        "coord_diag/w1_to_delta": (p * np.abs(k[None] - t[:, None])).sum(1).mean(),
        "coord_diag/p_gt_mean": p_true.mean(),
        "coord_diag/acc_top5": (rank < 5).mean(),
        "coord_diag/margin_mean": (coord.max(1) - coord[np.arange(len(t)), t]).mean(),
        "coord_diag/soft_ce": -(q * np.log(p)).sum(1).mean(),
        "coord_diag/w1": (np.abs(p.cumsum(1) - q.cumsum(1)).sum(1) / 999).mean(),
        "coord_diag/ce": -np.log(p_true).mean(),
        "coord_diag/gate": -np.log(mass[slot]).mean(),
        "coord_diag/coord_vocab_mass": mass[slot].mean(),
        "coord_diag/flip_coord_to_noncoord": ((argmax < FIRST) | (argmax >= FIRST + K)).mean(),
        "coord_diag/text_coord_vocab_mass": mass[~slot].mean(),
        "token_acc": right.mean(),
        "coord_token_acc": right[slot].mean(),
        "desc_token_acc": right[kinds == DESCRIPTION].mean(),
        "format_token_acc": right[kinds == STRUCTURE].mean(),
    }


def test_all_metrics_equal_a_float64_reference(positions):
    """Random logits, foreign slots among them: every number agrees to 1e-5."""
    diagnosis = diagnose(torch.from_numpy(positions[0]), _targets(*positions[1:]), COORD_IDS)
    got = totals_of(diagnosis).metrics()
    want = reference(*positions)
    assert set(got) == {*want, "coord_diag/multimodal_rate"} == set(METRIC_KEYS)
    for key, value in want.items():
        assert got[key] == pytest.approx(value, rel=1e-5, abs=1e-9), key


@pytest.mark.parametrize("chunk_numbers", [1, V, 7 * V + 3, 10**9])
def test_chunks_and_cuts_change_nothing(positions, chunk_numbers):
    """However positions are cut into chunks, batches and processes, the totals are the same."""
    logits, targets = torch.from_numpy(positions[0]), _targets(*positions[1:])
    whole = totals_of(diagnose(logits, targets, COORD_IDS))
    chunked = totals_of(diagnose(logits, targets, COORD_IDS, chunk_numbers=chunk_numbers))
    cuts = [slice(0, 0), slice(0, 13), slice(13, 14), slice(14, 60)]
    parts = [diagnose(logits[cut], targets.rows(cut), COORD_IDS) for cut in cuts]
    again = joined(parts).split([20, 0, 40])
    for other in (
        chunked,
        add_up(totals_of(part) for part in parts),
        add_up(totals_of(part) for part in again),
    ):
        assert other.counts() == whole.counts()
        for key, value in whole.metrics().items():
            assert other.metrics()[key] == pytest.approx(value, rel=1e-6), key


def test_only_chosen_slots_are_left():
    """A choice among slots keeps their values and drops the text."""
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(0, 3, size=(6, V)).astype(np.float32))
    labels = torch.tensor([1, FIRST + 5, 2, FIRST + 900, FIRST + 3, 4])
    diagnosis = diagnose(logits, targets_from_labels(labels, COORD_IDS), COORD_IDS)
    chosen = diagnosis.only_slots(torch.tensor([True, False, True]))
    assert chosen.slots.bins.tolist() == [5, 3]
    assert chosen.slots.p_gt.tolist() == diagnosis.slots.p_gt[[0, 2]].tolist()
    assert totals_of(chosen).counts() == {"tokens": 2, "slots": 2, "bins": 2, "text_tokens": 0}


def test_nothing_gives_no_values():
    """No positions: every metric is None, none is NaN or 0."""
    empty = torch.zeros(0, dtype=torch.long)
    targets = Targets(empty, empty, empty)
    for totals in (
        Totals(),
        add_up([]),
        totals_of(diagnose(torch.zeros(0, V), targets, COORD_IDS)),
    ):
        assert totals.metrics() == dict.fromkeys(METRIC_KEYS)
    text = targets_from_labels(torch.tensor([3]), COORD_IDS)
    only_text = totals_of(diagnose(torch.zeros(1, V), text, COORD_IDS)).metrics()
    assert only_text["coord_diag/expected_bin_mae"] is None
    assert only_text["coord_diag/text_coord_vocab_mass"] == pytest.approx(K / V, rel=1e-6)


def test_a_foreign_slot_counts_for_mass_and_flip_alone():
    """A slot without a coordinate has a mass and a winner, but nothing to be compared with."""
    logits = torch.zeros(1, V)
    logits[0, 3] = 20.0
    targets = Targets(torch.tensor([3]), torch.tensor([COORDINATE]), torch.tensor([NO_BIN]))
    got = totals_of(diagnose(logits, targets, COORD_IDS)).metrics()
    assert got["coord_diag/flip_coord_to_noncoord"] == 1.0
    assert got["coord_diag/coord_vocab_mass"] < 1e-5
    assert got["coord_diag/expected_bin_mae"] is None
    assert got["coord_diag/expected_bin_abs_err_p90"] is None


def test_bfloat16_logits_are_worked_on_in_float32(positions):
    """Logits in bfloat16 give exactly what their float32 copies give, in wide arithmetic."""
    half = torch.from_numpy(positions[0]).bfloat16()
    targets = _targets(*positions[1:])
    one = diagnose(half, targets, COORD_IDS)
    two = diagnose(half.float(), targets, COORD_IDS)
    assert one.slots.gate.dtype == torch.float32
    assert one.slots.soft_ce.dtype == torch.float64
    for left, right in zip(one.slots, two.slots, strict=True):
        assert torch.equal(left, right)


def test_scattered_coordinate_ids():
    """Bins need not stand in a row of the vocabulary: a permuted one gives the same numbers."""
    rng = np.random.default_rng(2)
    ids = torch.from_numpy(rng.permutation(V)[:K])
    rest = torch.from_numpy(np.setdiff1d(np.arange(V), ids.numpy()))
    logits = torch.from_numpy(rng.normal(0, 3, size=(9, V)).astype(np.float32))
    bins = torch.from_numpy(rng.integers(0, K, size=9))
    straight = totals_of(
        diagnose(logits, targets_from_labels(bins + FIRST, COORD_IDS), COORD_IDS)
    ).metrics()
    moved = torch.empty_like(logits)
    moved[:, ids] = logits[:, FIRST : FIRST + K]
    moved[:, rest] = torch.cat([logits[:, :FIRST], logits[:, FIRST + K :]], dim=1)
    got = totals_of(diagnose(moved, targets_from_labels(ids[bins], ids), ids)).metrics()
    for key, value in straight.items():
        assert got[key] == (None if value is None else pytest.approx(value, rel=1e-5)), key


def test_rows_must_fit_the_labels():
    """Another number of rows than labels is a fault of the caller."""
    with pytest.raises(ValueError, match="labels"):
        diagnose(torch.zeros(2, V), targets_from_labels(torch.tensor([1]), COORD_IDS), COORD_IDS)
