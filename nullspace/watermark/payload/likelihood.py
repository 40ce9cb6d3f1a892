"""The evidence of a reading for a 1 or a 0: the likelihood of its phase given the effect of compression and noise.

JPEG rounds a site to multiples of its step, so its error is uniform over half a step to each side: a reading further
from a lattice point excludes that point, and one within reach of both is no evidence. The error of Gaussian noise has
no such limit. The reader does not know which distortions an image went through: it takes the hypothesis that explains
all phases best, whichever bits they carry. The same model predicts how many bits the sites of a kernel carry through
JPEG.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from nullspace.watermark.payload.detection import sums_by_bit

BINS = 256  # from a lattice point of a 1 to the nearest of a 0
# Hypotheses: JPEG with shares of the step at quality 50 (0.2 is quality 90, 0.5 is 75, 1.25 is 40, 1.67 is 30) ...
SHARES = (0.0, 0.2, 0.5, 0.75, 1.0, 1.25, 1.67)
SPREADS = (1.5, 4.0, 8.0)  # ... and Gaussian noise on top, in grey levels
SURE = 0.98  # weight of the hypothesis; the rest is a uniform density, for distortions outside the model
LATTICE = 2  # lattice points counted to each side; errors of two periods cannot be decoded anyway
PLANNED_SPREAD = 2.0  # grey levels in addition to JPEG's rounding: rounding of the pixels, before and after


def likelihoods(periods: Tensor, steps: Tensor, share: float, spread: float) -> Tensor:
    """Densities (2,k,BINS) of the phases of k kinds of sites, given a 1 and given a 0, relative to uniform ones.

    `periods` and `steps` (k,) of the lattices and of JPEG in pixel units; `share` of the step, `spread` in grey levels.
    """
    at = (torch.arange(BINS, dtype=torch.float64) + 0.5) / (2 * BINS)
    half = (share * steps.double() / periods.double() / 2).clamp_min(1e-3)[:, None]
    sigma = (spread / 255 / periods.double())[:, None]
    points = torch.arange(-LATTICE, LATTICE + 1, dtype=torch.float64)[:, None, None]
    found = torch.stack([_smeared(at + shift + points, half, sigma).sum(dim=0) for shift in (0.0, 0.5)])
    return SURE * found + 1 - SURE


def information(periods: Tensor, steps: Tensor) -> Tensor:
    """Bits (k,) that each kind of site carries through JPEG at quality 50, float64: 1 where no reading is ambiguous."""
    ones, zeros = likelihoods(periods, steps, 1.0, PLANNED_SPREAD)
    mean = (ones + zeros) / 2
    # By symmetry phases of a 1 are as informative as those of a 0; both are folded onto half a period.
    gained = torch.special.xlogy(ones, ones / mean) + torch.special.xlogy(zeros, zeros / mean)
    return gained.mean(dim=1) / math.log(4)


def tables(periods: Tensor, steps: Tensor) -> Tensor:
    """`likelihoods` (h,2,k,BINS), float32, of all h hypotheses, with a mean over the bins of exactly 1."""
    found = torch.stack([likelihoods(periods, steps, *each) for each in product(SHARES, SPREADS)])
    return (found / found.mean(dim=-1, keepdim=True)).float()


def explained(scores: Tensor, kinds: Tensor, room: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Log likelihood ratios (B,n) to chance of a 1 and of a 0 at each site, under the hypothesis that fits best.

    `scores` (B,n) as `detection.scores` makes them, `kinds` (n,) int64 of the sites, `room` (B,n) in [0,1] the share
    of each that had room for a mark, `known` from `tables`.
    """
    bins = (torch.special.ndtr(-scores) * BINS).long().clamp(0, BINS - 1)
    places = kinds * BINS + bins
    flat = known.flatten(2)  # (h,2,k·BINS)
    counts = torch.zeros(len(scores), flat.shape[-1]).scatter_add(1, places, room)
    best = (counts @ flat.mean(dim=1).log().T).argmax(dim=1)
    ones, zeros = (flat[best, bit].gather(1, places) * room + (1 - room) for bit in range(2))
    return ones.log(), zeros.log()


def log_chance(ones: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """Upper bound (B,) of the log p-value by likelihood, for sites assigned to `bits` bits; <= 0.

    `ones` and `zeros` (B,n) from `explained`. With a wrong key phases are uniform whatever the image, so a likelihood
    ratio has mean 1, also that of each bit being a 1 or a 0 with even odds; by Markov's inequality it reaches 1/p with
    probability p at most. Taking the best of all hypotheses costs a factor of their number.
    """
    either = torch.logaddexp(sums_by_bit(ones.double(), bits), sums_by_bit(zeros.double(), bits)) - math.log(2)
    return (math.log(len(SHARES) * len(SPREADS)) - either.sum(dim=-1)).clamp(max=0)


def _smeared(at: Tensor, half: Tensor, sigma: Tensor) -> Tensor:
    """Density of the sum of a uniform variable in ±`half` and a Gaussian one."""
    return (torch.special.ndtr((at + half) / sigma) - torch.special.ndtr((at - half) / sigma)) / (2 * half)
