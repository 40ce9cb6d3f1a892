"""Philox4x64-10, a counter-based generator: a key and a counter give 256 random bits, and nothing is remembered.

Integer operations on tensors, so that a CPU and a GPU give the same bits; `words` takes numpy's implementation of the
same generator on the CPU, where it is 30 times as fast. Source: Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3"; it passes BigCrush. Words are int64, whose bits are those of the unsigned ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ROUNDS = 10
_LOW = 0xFFFFFFFF
_BITS = (1 << 64) - 1
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # golden ratio, √3 - 1


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> Tensor:
    """Four words (…,4) int64 for each counter, four tensors of words, and key, two of them; shapes broadcast."""
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + signed(_KEY_STEPS[0]), k1 + signed(_KEY_STEPS[1])
    return torch.stack(torch.broadcast_tensors(c0, c1, c2, c3), dim=-1)


def words(key: Tensor, stream: int, kind: int, count: int) -> Tensor:
    """`count` words (n,count) for each of n keys (n,2) int64, on the device of the keys.

    Block b of four words has the counter (b+1, stream, kind, 0), as `numpy.random.Philox` counts from (0, stream, kind,
    0). Streams and kinds below 2^63 are independent of one another.
    """
    if key.device.type != "cuda":
        return _by_numpy(key.cpu(), stream, kind, count).to(key.device)
    blocks = torch.arange(1, -(-count // 4) + 1, device=key.device)
    rest = (blocks.new_tensor(value) for value in (stream, kind, 0))
    found = philox((blocks[None], *rest), (key[:, :1], key[:, 1:]))  # type: ignore[arg-type]
    return found.flatten(1)[:, :count]


def signed(word: int) -> int:
    """The int64 with the bits of an unsigned word."""
    return word - (1 << 64) if word >> 63 else word


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The high and the low word of the unsigned product, from products of half words."""
    high, low = _halves(word)
    factor_high, factor_low = factor >> 32, factor & _LOW
    crossed = high * factor_low, low * factor_high
    carried = ((low * factor_low) >> 32 & _LOW) + (crossed[0] & _LOW) + (crossed[1] & _LOW)
    upper = high * factor_high + (crossed[0] >> 32 & _LOW) + (crossed[1] >> 32 & _LOW) + (carried >> 32)
    return upper, word * signed(factor)


def _halves(word: Tensor) -> tuple[Tensor, Tensor]:
    return word >> 32 & _LOW, word & _LOW  # >> keeps the sign, & removes it


def _by_numpy(key: Tensor, stream: int, kind: int, count: int) -> Tensor:
    begin = np.array([0, stream, kind, 0], np.uint64)
    rows = [np.random.Philox(key=own, counter=begin).random_raw(count) for own in key.numpy().view(np.uint64)]
    found = rows[0][None] if len(rows) == 1 else np.stack(rows)
    return torch.from_numpy(found.view(np.int64))
