"""The fingerprint of weights: the same for the same, another for any change."""

from __future__ import annotations

import copy

import pytest
import torch
from live_training import tiny_model

from coordeval.training.rollout_eval.weights_hash import weights_hash


class Holder(torch.nn.Module):
    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def test_equal_weights_have_one_hash():
    """Copies, modes and gradients make no difference, a saved and loaded state neither."""
    model = tiny_model()
    first = weights_hash(model)
    other = tiny_model(seed=1)
    assert weights_hash(other) != first
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert weights_hash(other.eval()) == first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
@pytest.mark.parametrize("place", [0, 12_345, 99_999])
def test_one_number_anywhere_changes_it(dtype, place):
    """Also in tensors of which only a sample is hashed byte by byte."""
    values = torch.arange(100_000).to(dtype)
    changed = values.clone()
    changed[place] = 3 if values[place] != 3 else 4
    assert weights_hash(Holder(a=values)) != weights_hash(Holder(a=changed))


def test_exchanged_numbers_change_it():
    """A sum alone would not see two numbers that changed places."""
    values = torch.arange(100_000).float()
    changed = values.clone()
    changed[12_345], changed[54_321] = values[54_321], values[12_345]
    assert weights_hash(Holder(a=values)) != weights_hash(Holder(a=changed))


def test_names_shapes_and_formats_count():
    """The same numbers under another name or shape are another model."""
    values = torch.zeros(4, 6)
    hashes = {
        weights_hash(Holder(a=values)),
        weights_hash(Holder(b=values)),
        weights_hash(Holder(a=values.reshape(6, 4))),
        weights_hash(Holder(a=values.bfloat16())),
        weights_hash(Holder(a=values.bool())),
        weights_hash(Holder(a=torch.zeros(0))),
        weights_hash(Holder(a=torch.zeros(4, 6, dtype=torch.complex64))),
    }
    assert len(hashes) == 7
