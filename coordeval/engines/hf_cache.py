"""A key-value cache that grows in steps, so that a new token does not copy all that came before.

transformers' own dynamic layer concatenates at every token: for long answers of small models that
copying is half of the decoding time on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import Cache, DynamicLayer

if TYPE_CHECKING:
    import torch

STEP_TOKENS = 256


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values (B, heads, tokens, dim) as views into buffers with room for more tokens."""

    keys: torch.Tensor
    values: torch.Tensor
    _key_buffer: torch.Tensor
    _value_buffer: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states along the token axis; returns all keys and values so far."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if start == 0 or end > self._key_buffer.shape[-2]:
            capacity = max(end + STEP_TOKENS, start + start // 2)
            self._key_buffer = _with_room(key_states, self.keys, start, capacity)
            self._value_buffer = _with_room(value_states, self.values, start, capacity)
        self._key_buffer[..., start:end, :] = key_states
        self._value_buffer[..., start:end, :] = value_states
        self.keys = self._key_buffer[..., :end, :]
        self.values = self._value_buffer[..., :end, :]
        return self.keys, self.values


def _with_room(states: torch.Tensor, old: torch.Tensor, length: int, capacity: int) -> torch.Tensor:
    buffer = states.new_empty((*states.shape[:-2], capacity, states.shape[-1]))
    if length:
        buffer[..., :length, :] = old
    return buffer


def growing_cache() -> Cache:
    """An empty cache for one call of `generate`."""
    return Cache(layer_class_to_replicate=GrowingLayer)


__all__ = ["GrowingLayer", "growing_cache"]
