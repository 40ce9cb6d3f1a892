"""Normal numbers from random bits by a table of the inverse distribution function, the same on every device.

Linear within segments that shrink towards the tail, 2^9 for every octave of its probability (Cheung et al. 2007,
"Hardware generation of arbitrary random number distributions from uniform distributions via the inversion method"):
off by less than 1e-6. The float32 of a number has its segment in its first bits.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_SHIFT = 14  # of a float32's 32 bits: leaves sign, exponent and 9 bits of the mantissa
_SEGMENTS = 1 << (32 - _SHIFT)
_HALF = 31  # 2^31, the largest number, stands for a tail of 1/2


def normal_of(bits: Tensor) -> Tensor:
    """A standard normal float32 for each int32 of random bits: its size over 2^32 is the probability of the tail."""
    number = (bits | 1).float()  # never 0; multiplied and added in two steps, as one would round otherwise on some GPUs
    segment = (number.view(torch.int32) >> _SHIFT & (_SEGMENTS - 1)).flatten()
    start, slope = _table(bits.device)
    found = slope.index_select(0, segment).mul_(number.flatten()).add_(start.index_select(0, segment))
    return found.view_as(number)


@functools.lru_cache(maxsize=4)
def _table(device: torch.device) -> tuple[Tensor, Tensor]:
    """The line `start` + `slope`·number on each segment, float32."""
    from scipy.special import ndtri  # here: most of what imports this draws nothing

    segments = torch.arange(_SEGMENTS // 2, dtype=torch.int32)
    ends = [(part << _SHIFT).view(torch.float32).double() for part in (segments, segments + 1)]
    low, high = (-torch.from_numpy(ndtri(2.0**-32 * end.clamp(0.5, 2.0**_HALF).numpy())) for end in ends)
    used = (ends[0] >= 1) & (ends[0] < 2.0**_HALF)
    slope = torch.where(used, (high - low) / (ends[1] - ends[0]), 0.0)
    start = torch.where(used, low - slope * ends[0], 0.0)
    # A negative number is in the other tail, of the same line through the origin's other side.
    return torch.cat([start, -start]).float().to(device), torch.cat([slope, slope]).float().to(device)
