"""How much a reading says for a 1 or a 0: the likelihood of its phase under what compression and noise do to slots.

JPEG rounds a slot to multiples of its step, so it is off by at most half a step, any error being as likely: a reading
further from a lattice point is proof, and one that both points could have led to says nothing. Gaussian noise is smooth
instead. Which of them an image went through nobody tells the reader: it takes what explains all phases best, whichever
bits they bear. The same law tells in advance how many bits the slots of a kernel carry through JPEG.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from nullspace.watermark.payload.detection import dealt

BINS = 256  # from a lattice point of a 1 to the nearest of a 0
# What may have happened: shares of the step at quality 50 (0.2 is quality 90, 0.5 is 75, 1.25 is 40, 1.67 is 30) ...
SHARES = (0.0, 0.2, 0.5, 0.75, 1.0, 1.25, 1.67)
SPREADS = (1.5, 4.0, 8.0)  # ... and Gaussian noise on top, in grey levels
SURE = 0.98  # the most any slot is trusted: the rest is for whatever no law foresees
LATTICE = 2  # lattice points to each side that are counted; errors of two periods are beyond reading anyway
PLANNED_SPREAD = 2.0  # grey levels beside JPEG's rounding: that of the pixels, before and after


def likelihoods(periods: Tensor, steps: Tensor, share: float, spread: float) -> Tensor:
    """Densities (2,k,BINS) of the phases of k kinds of slots, given a 1 and given a 0, relative to uniform ones.

    `periods` and `steps` (k,) of the lattices and of JPEG in pixel units; `share` of the step, `spread` in grey levels.
    """
    at = (torch.arange(BINS, dtype=torch.float64) + 0.5) / (2 * BINS)
    half = (share * steps.double() / periods.double() / 2).clamp_min(1e-3)[:, None]
    sigma = (spread / 255 / periods.double())[:, None]
    points = torch.arange(-LATTICE, LATTICE + 1, dtype=torch.float64)[:, None, None]
    found = torch.stack([_smeared(at + shift + points, half, sigma).sum(dim=0) for shift in (0.0, 0.5)])
    return SURE * found + 1 - SURE


def information(periods: Tensor, steps: Tensor) -> Tensor:
    """Bits (k,) that each kind of slot carries through JPEG at quality 50, float64: 1 where nothing is confounded."""
    ones, zeros = likelihoods(periods, steps, 1.0, PLANNED_SPREAD)
    mean = (ones + zeros) / 2
    # By symmetry phases of a 1 say as much as those of a 0; both are folded onto half a period.
    said = torch.special.xlogy(ones, ones / mean) + torch.special.xlogy(zeros, zeros / mean)
    return said.mean(dim=1) / math.log(4)


def tables(periods: Tensor, steps: Tensor) -> Tensor:
    """`likelihoods` (h,2,k,BINS), float32, of all that may have happened, with a mean over the bins of exactly 1."""
    found = torch.stack([likelihoods(periods, steps, *each) for each in product(SHARES, SPREADS)])
    return (found / found.mean(dim=-1, keepdim=True)).float()


def explained(scores: Tensor, kinds: Tensor, room: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Log likelihoods (B,n) of a 1 and of a 0 in each slot, over that of chance, under what explains all slots best.

    `scores` (B,n) as `detection.scores` makes them, `kinds` (n,) long of the slots, `room` (B,n) in [0,1] how much of
    them had room for a mark, `known` from `tables`.
    """
    bins = (torch.special.ndtr(-scores) * BINS).long().clamp(0, BINS - 1)
    places = kinds * BINS + bins
    flat = known.flatten(2)  # (h,2,k·BINS)
    counts = torch.zeros(len(scores), flat.shape[-1]).scatter_add(1, places, room)
    best = (counts @ flat.mean(dim=1).log().T).argmax(dim=1)
    ones, zeros = (flat[best, bit].gather(1, places) * room + (1 - room) for bit in range(2))
    return ones.log(), zeros.log()


def log_chance(ones: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """Log (B,) of the largest probability that chance explains slots as well, for `bits` bits they are dealt to; <= 0.

    `ones` and `zeros` (B,n) from `explained`. With a wrong key phases are uniform whatever the image, so a likelihood
    ratio has mean 1, also that of each bit being a 1 or a 0 with even odds; by Markov's inequality it reaches 1/p with
    probability p at most. Taking the best of all that may have happened costs their number.
    """
    either = torch.logaddexp(dealt(ones.double(), bits), dealt(zeros.double(), bits)) - math.log(2)
    return (math.log(len(SHARES) * len(SPREADS)) - either.sum(dim=-1)).clamp(max=0)


def _smeared(at: Tensor, half: Tensor, sigma: Tensor) -> Tensor:
    """Density of a uniform number in ±`half` plus a Gaussian one."""
    return (torch.special.ndtr((at + half) / sigma) - torch.special.ndtr((at - half) / sigma)) / (2 * half)
