"""The growing cache holds exactly what transformers' own cache holds."""

import pytest
import torch
from transformers.cache_utils import DynamicCache

from coordeval.engines import hf_cache


@pytest.mark.parametrize("step", [1, 3, 256])
def test_it_returns_what_concatenation_returns(monkeypatch, step):
    """Prompt, then tokens one by one and in blocks: keys, values and lengths are equal."""
    monkeypatch.setattr(hf_cache, "STEP_TOKENS", step)
    generator = torch.Generator().manual_seed(0)
    ours, theirs = hf_cache.growing_cache(), DynamicCache()
    for tokens in (7, 1, 1, 5, 1, 1, 1, 40, 1):
        for layer in range(2):
            keys, values = (torch.randn(3, 2, tokens, 4, generator=generator) for _ in range(2))
            got = ours.update(keys, values, layer)
            expected = theirs.update(keys, values, layer)
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_later_tokens_do_not_copy_earlier_ones():
    """Between two growths the buffer stays where it is."""
    cache = hf_cache.growing_cache()
    cache.update(torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2), 0)
    place = cache.layers[0].keys.data_ptr()
    for _ in range(100):
        cache.update(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2), 0)
    assert cache.layers[0].keys.data_ptr() == place
    assert cache.layers[0].keys[0, 0, -1].tolist() == [1.0, 1.0]
