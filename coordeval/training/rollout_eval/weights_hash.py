"""A fingerprint of the weights in memory: what tells one state of a training from another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_WHOLE = 1 << 14  # so many numbers of a tensor are hashed byte by byte, of larger ones a sample
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def weights_hash(model: nn.Module) -> str:
    """Hex sha256 over names, shapes, formats and values of all parameters and buffers.

    Of every tensor the bits of all numbers are added up as integers, plain and weighted by place:
    exact, the same on every device, and different where any single number differs; tensors of up
    to 16,384 numbers are hashed whole, of larger ones as many at equal distances. One pass over
    the weights where they are. Tied weights count once.
    """
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        bits_N = _bits(tensor)
        step = max(1, -(-bits_N.numel() // _WHOLE))
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(",".join(map(str, _sums(bits_N))).encode())
        digest.update(bits_N[::step].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _bits(tensor: Tensor) -> Tensor:
    flat_N = tensor.detach().contiguous().reshape(-1)
    if flat_N.dtype is torch.bool:
        return flat_N.to(torch.uint8)
    return (
        flat_N.view(_INTEGERS[flat_N.element_size()])
        if not flat_N.is_complex()
        else (torch.view_as_real(flat_N).reshape(-1).view(_INTEGERS[flat_N.element_size() // 2]))
    )


def _sums(bits_N: Tensor, block: int = 1 << 24) -> tuple[int, int]:
    """Sums of the bits and of bits times place (modulo 2^64), block by block."""
    plain = weighted = 0
    for start in range(0, bits_N.numel(), block):
        part_B = bits_N[start : start + block].to(torch.int64)
        places_B = torch.arange(start + 1, start + 1 + len(part_B), device=part_B.device)
        plain += int(part_B.sum())
        weighted += int((part_B * places_B).sum())
    return plain % (1 << 64), weighted % (1 << 64)


__all__ = ["weights_hash"]
