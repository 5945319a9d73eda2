"""Which sample stands in which step and process; what a filler teaches; gradients per term."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stage1_setup import config, tiny_base

from coordeval.training.assembly import assemble, make_trainer
from coordeval.training.config import BoxLossConfig, MonitorConfig, ObjectiveConfig
from coordeval.training.data.batches import Place, RankBatches, blanked
from coordeval.training.loop.arguments import training_arguments
from coordeval.training.loop.gradmon import gradient_metrics
from coordeval.training.loop.stopping import StopRequest


def _windows(num_samples, batch_size, world, accumulation, **rest):
    """Samples of every optimizer step, over all processes, fillers left out."""
    ranks = [
        list(
            RankBatches(
                num_samples=num_samples, batch_size=batch_size, rank=rank, world=world, **rest
            )
        )
        for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    return [
        sorted(
            place.sample
            for batches in ranks
            for batch in batches[start : start + accumulation]
            for place in batch
            if not place.is_filler
        )
        for start in range(0, len(ranks[0]), accumulation)
    ]


@given(
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_a_window_holds_the_same_samples_however_it_is_cut(
    samples, batch, world, accumulation, epoch, shuffle
):
    """Only the product counts; each sample comes once per epoch; every process is kept busy."""
    rest = {"seed": 5, "epoch": epoch, "shuffle": shuffle}
    found = _windows(samples, batch, world, accumulation, **rest)
    whole = _windows(samples, batch * world * accumulation, 1, 1, **rest)
    assert found == whole
    assert sorted(sample for window in found for sample in window) == list(range(samples))


def test_epochs_differ_and_repeat():
    """Every epoch has its own order, the same again for the same seed, another for another."""

    def order(seed, epoch):
        return RankBatches(num_samples=50, batch_size=1, seed=seed, epoch=epoch).order()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_dropping_the_last_batch_leaves_whole_ones():
    """With drop_last only full batches of all processes are left."""
    batches = RankBatches(num_samples=11, batch_size=2, world=2, drop_last=True, shuffle=False)
    assert list(batches) == [[Place(0), Place(2)], [Place(4), Place(6)]]


def test_a_filler_teaches_nothing():
    """Labels, kinds, boxes and ids of a filler batch are empty; what the model reads is not."""
    batch = {
        "input_ids": torch.tensor([[4, 5]]),
        "labels": torch.tensor([[-100, 5]]),
        "token_kinds": torch.tensor([[0, 3]], dtype=torch.uint8),
        "box_slots": torch.tensor([[0, 0, 1, 1]]),
        "sample_ids": ["a"],
        "skipped": ["b"],
    }
    out = blanked(batch)
    assert (out["labels"] == -100).all() and not out["token_kinds"].any()
    assert out["box_slots"].shape == (0, 4)
    assert out["sample_ids"] == out["skipped"] == []
    assert torch.equal(out["input_ids"], batch["input_ids"])
    assert batch["labels"][0, 1] == 5


def test_term_gradients_of_the_monitor_add_up_to_the_real_one(tmp_path):
    """On the last norm's gain the terms' weighted gradients sum to what the step computes."""
    base = tiny_base(tmp_path / "base")
    settings = config(
        base,
        tmp_path / "run",
        objective=ObjectiveConfig(
            soft_ce=0.5, w1=2.0, text_gate=0.3, box=BoxLossConfig(ciou=0.5, smooth_l1=1.0)
        ),
        monitor=MonitorConfig(gradients_every=1, diagnostics_every=0),
    )
    parts = assemble(settings, training_arguments(settings), lambda _: None)
    trainer = make_trainer(parts, StopRequest(), [])
    batches = iter(trainer.get_train_dataloader())
    window, _ = trainer.get_batch_samples(batches, 3, torch.device("cpu"))
    for batch in window:
        trainer.compute_loss(trainer.model, batch).backward()
    gain = trainer.model.model.language_model.norm.weight.grad.double().numpy()
    monitor = trainer._gradient_monitor
    own = {name: value.numpy() for name, value in monitor._sums.items()}
    assert set(own) == set(parts.objective.weights) and len(own) == 8
    np.testing.assert_allclose(sum(own.values()), gain, rtol=1e-4, atol=1e-7)
    metrics = gradient_metrics(own)
    assert metrics["gradmon/grad_norm_total"] == pytest.approx(np.linalg.norm(gain), rel=1e-4)


def test_gradient_metrics_in_closed_form():
    """Two terms that pull apart and one without a gradient."""
    found = gradient_metrics(
        {"a": np.array([3.0, 0.0]), "b": np.array([-1.0, 0.0]), "c": np.array([0.0, 0.0])}
    )
    assert found["gradmon/cos_to_total/a"] == 1.0
    assert found["gradmon/cos_to_total/b"] == -1.0
    assert found["gradmon/cos_to_total/c"] is None
    assert found["gradmon/neg_cosine_pair_frac"] == 1.0
    assert found["gradmon/neg_cos_to_total_frac"] == 0.5
    assert found["gradmon/grad_norm_ratio_max_over_median"] == 3.0
    assert (found["gradmon/num_terms"], found["gradmon/shared_param_numel"]) == (3, 2)
