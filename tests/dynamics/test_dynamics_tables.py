"""The published tables of two studies, re-made from logs that hold their figures.

The expected figures stand here as the write-ups print them; they are not imported from the script
that writes the logs.
"""

from pathlib import Path

import pytest

from coordeval.dynamics.analysis import analyse
from coordeval.dynamics.discover import read_logs
from coordeval.dynamics.units import parse_image_size

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"

END_COLUMNS = [
    "ce",
    "soft_ce",
    "w1",
    "gate",
    "p_gt_mean",
    "acc_top5",
    "expected_bin_mae",
    "coord_vocab_mass",
    "margin_mean",
    "flip_coord_to_noncoord",
]
END = {
    "soft_ce_only": (1830, 1832, "0 3.5260 0.0803 0.0026 0.0655 0.4085 20.8764 0.9995 0.8338 0"),
    "pure_ce_only": (1930, 1932, "NA 4.8058 0.0881 0.0066 0.1234 0.5448 20.9029 0.9988 1.0985 0"),
    "soft_ce_hard_ce_mixed": (
        1340,
        1344,
        "3.4371 3.6293 0.0296 0.0029 0.0930 0.4782 21.3715 0.9987 1.1014 8.4831e-05",
    ),
}
SNAPSHOT_KEYS = (
    "coord_diag/expected_bin_mae",
    "coord_diag/expected_bin_abs_err_p90",
    "coord_token_acc",
    "coord_diag/p_gt_mean",
)
SNAPSHOTS = {
    640: {
        "softce_w1_gate": (24.1203, 55.4792, 0.1714, 0.0858),
        "pure_ce": (23.6342, 55.0611, 0.2177, 0.1665),
        "mixed": (24.2648, 56.4770, 0.2000, 0.1036),
    },
    720: {
        "softce_w1_gate": (24.2960, 57.2480, 0.1786, 0.0878),
        "pure_ce": (23.9431, 55.9131, 0.2288, 0.1685),
    },
}


@pytest.fixture(scope="module")
def summary():
    return analyse(read_logs([LOGS / "summary-4b"]))


@pytest.fixture(scope="module")
def ablation():
    scale = parse_image_size("640")
    return analyse(read_logs([LOGS / "ablation-4b"]), at=(640, 720), scale=scale)


def rows_of(table, names):
    return {
        row["key"]: {name: cell and cell["value"] for name, cell in row["values"].items()}
        for row in (entry.to_json(names) for entry in table)
        if row["split"] == "eval"
    }


def test_end_of_training_table(summary):
    """Last values and last steps of three trainings, NA where a key was not logged."""
    table = rows_of(summary.end, summary.names)
    for log in summary.to_json()["logs"]:
        train, evaluation, figures = END[log["name"]]
        assert (log["max_train_step"], log["max_eval_step"]) == (train, evaluation)
        for leaf, figure in zip(END_COLUMNS, figures.split(), strict=True):
            value = table[f"coord_diag/{leaf}"][log["name"]]
            assert value == (None if figure == "NA" else float(figure)), (log["name"], leaf)


def test_pure_cross_entropy_turns_at_400(summary):
    """Soft cross entropy under pure CE improves until 400, then worsens to 4.81."""
    trends = {(t.log, t.key): t for t in summary.trends}
    turn = trends[("pure_ce_only", "coord_diag/soft_ce")]
    assert (turn.verdict, turn.turn) == ("turns", 400)
    assert turn.first[1] == 8.19
    assert turn.best[1] == 4.19
    assert turn.turn_to == pytest.approx(4.81, abs=0.01)
    for name, level in (("soft_ce_only", 3.53), ("soft_ce_hard_ce_mixed", 3.63)):
        trend = trends[(name, "coord_diag/soft_ce")]
        assert trend.turn is None
        assert trend.plateau.high == pytest.approx(level, abs=0.01)


def test_vocabulary_mass_is_confined_by_200(summary):
    """The mass at coordinate slots rises from its published first value to 0.99 by step 200."""
    firsts = {"soft_ce_only": 0.34, "pure_ce_only": 0.0565, "soft_ce_hard_ce_mixed": 0.192}
    for trend in summary.trends:
        if trend.key == "coord_diag/coord_vocab_mass":
            assert trend.first == (40, firsts[trend.log])
            assert trend.collapse == 200
            assert trend.plateau.start == 200


def test_snapshots_of_the_ablation(ablation):
    """The tables at steps 640 (three trainings) and 720 (two)."""
    for step, expected in SNAPSHOTS.items():
        table = rows_of(ablation.snapshots[step], ablation.names)
        for name in ablation.names:
            found = tuple(table[key][name] for key in SNAPSHOT_KEYS)
            assert found == expected.get(name, (None,) * 4)


def test_common_steps_of_the_ablation(ablation):
    """17 common steps 40, 80, ..., 680; soft and pure share 720 as well."""
    assert ablation.steps.everywhere == tuple(range(40, 681, 40))
    assert ablation.steps.shared == ((720, ("pure_ce", "softce_w1_gate")),)
    assert ablation.steps.snapshots == (680, 720)


def test_ratio_audit_of_the_ablation(ablation):
    """Medians and ranges of training over evaluation, all on one scale."""
    found = {(audit.log, audit.key): audit for audit in ablation.ratios}
    expected = {
        ("softce_w1_gate", "loss"): (1.00, 0.98, 1.09),
        ("pure_ce", "loss"): (1.01, 0.99, 1.07),
        ("mixed", "loss"): (1.00, 0.98, 1.05),
    }
    for name, figures in expected.items():
        audit = found[name]
        assert (audit.median, audit.low, audit.high) == pytest.approx(figures, abs=1e-9)
    assert found[("softce_w1_gate", "base_ce/loss")].median == pytest.approx(0.99)
    assert found[("softce_w1_gate", "coord_diag/loss")].median == pytest.approx(1.0)
    assert len(found[("pure_ce", "loss")].pairs) == 18
    assert {audit.verdict for audit in found.values()} == {"same_scale"}


def test_plateau_of_the_ablation(ablation):
    """Errors of hundreds of bins collapse by about 120, then stay at 23.5 .. 27 and 55 .. 65."""
    ranges = {
        "coord_diag/expected_bin_mae": (23.5, 27.0),
        "coord_diag/expected_bin_abs_err_p90": (55.0, 65.0),
    }
    seen = 0
    for trend in ablation.trends:
        if trend.key in ranges:
            low, high = ranges[trend.key]
            assert trend.collapse is not None
            assert trend.collapse <= 120
            assert trend.plateau.start == 120
            assert low <= trend.plateau.low <= trend.plateau.high <= high
            seen += 1
    assert seen == 6


def test_bins_in_pixels():
    """24 bins are 15.4 px and 55 bins 35.2 px on 640 px, about half a patch and one."""
    scale = parse_image_size("640x640")
    assert scale.px(24)[0] == pytest.approx(15.4, abs=0.05)
    assert scale.px(55)[0] == pytest.approx(35.2, abs=0.05)
    assert scale.patches(24)[0] == pytest.approx(0.48, abs=0.005)
    wide = parse_image_size("1001x501", patch=10)
    assert wide.px(999) == pytest.approx((1000.0, 500.0))
    assert wide.patches(999) == pytest.approx((100.0, 50.0))


def test_the_fixture_is_what_its_script_writes(tmp_path, monkeypatch):
    """The stored logs are the script's output, byte for byte."""
    import importlib.util

    path = LOGS.parent / "build_logs.py"
    spec = importlib.util.spec_from_file_location("build_logs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOGS", tmp_path)
    module.main()
    stored = {p.relative_to(LOGS): p.read_bytes() for p in LOGS.rglob("*") if p.is_file()}
    written = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert stored == written
