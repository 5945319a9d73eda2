"""What trainings log stands in the tables of `coordeval.dynamics`, key by key."""

from __future__ import annotations

from types import SimpleNamespace

from coordeval.dynamics.keys import TRAINING_KEYS, catalogue_info
from coordeval.dynamics.logged_keys import TARGETS, TERMS, logged_key
from coordeval.training.diagnostics.totals import METRIC_KEYS, Totals
from coordeval.training.loop.step_rows import diagnoses, step_row
from coordeval.training.loop.window import EXTRA_COUNTS, Finished, Window
from coordeval.training.losses.slot_terms import TERM_NAMES
from coordeval.training.stage2.rollout_sums import RolloutSums, rollout_metrics
from coordeval.training.stage2.target_maker import COUNTED

PLACES = ("A1", "A2", "B")


def unexplained(keys):
    """Those that no table has."""
    known = {name for entry in TRAINING_KEYS for name in (entry.key, *entry.names)}
    return [k for k in keys if k not in known and not catalogue_info(k) and not logged_key(k)]


def test_terms_and_targets_of_the_tables_are_those_of_the_code():
    """A new term, or a new count of stage 2, needs a meaning."""
    assert set(TERMS) == set(TERM_NAMES)
    assert set(TARGETS) == set(COUNTED)


def test_a_step_of_either_stage_logs_no_key_without_a_meaning():
    """Losses, counts, diagnostics and throughput, at every place they are taken at."""
    names = [*TERM_NAMES, *(f"{at}/{term}" for at in PLACES for term in TERM_NAMES)]
    counts = {name: 1.0 for name in EXTRA_COUNTS if name != "stop"}
    counts |= {f"tokens/{name}": 1.0 for name in names}
    finished = Finished(
        loss=1.0,
        shares=[1.0],
        sums=dict.fromkeys(names, 1.0),
        values={"context/off_manifold": 0.5},
        totals={at: Totals() for at in ("", "A1/", "A2/", "B/")},
    )
    window = Window(
        counts=counts,
        channel=SimpleNamespace(names=names),
        label="A",
        facts={"rollout/seconds": 1.0},
    )
    row = step_row(window, finished, accumulation=1, seconds=1.0)
    assert len(row) > 100
    assert unexplained(row) == []


def test_rollouts_of_a_step_log_no_key_without_a_meaning():
    """Metrics of the training rollouts, with several views too."""
    keys = [f"{prefix}{key}" for key in rollout_metrics(RolloutSums()) for prefix in ("", "views/")]
    assert unexplained(f"rollout/{key}" for key in keys) == []
    assert unexplained(f"rollout/target/{name}" for name in COUNTED) == []


def test_every_diagnostic_is_explained_at_every_place():
    """Those of stage 1, and the same at the places of stage 2."""
    assert unexplained(METRIC_KEYS) == []
    for at in PLACES:
        assert unexplained(diagnoses(Totals(), f"{at}/")) == []
