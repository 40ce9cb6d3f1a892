"""Noise of every pixel and colour: Gaussian, of photons, of defective elements."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from scipy import special
from torch import Tensor

from nullspace.metrics.draws import Draws

_SIGMA = (0.08, 0.12, 0.18, 0.26, 0.38)  # of the pixel range
_PHOTONS = (60, 25, 12, 5, 3)  # of a white pixel
_DEFECTIVE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of values, half of them black, half white
_HALF = 2.0**-25  # half a step of the uniform draws: their mean is then 1/2


def gaussian_noise(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Normal noise of a stated deviation."""
    return image + _SIGMA[severity - 1] * draws.normal(*image.shape)[0]


def shot_noise(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """A Poisson number of photons instead of its mean."""
    photons = _PHOTONS[severity - 1]
    return poisson(image, photons, draws.uniform(*image.shape)[0]).float() / photons


def impulse_noise(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Salt and pepper, colour by colour."""
    share, chance = _DEFECTIVE[severity - 1], draws.uniform(*image.shape)[0]
    return image.masked_fill(chance < share, 1).masked_fill_(chance < share / 2, 0)


def poisson(image: Tensor, photons: int, chance: Tensor) -> Tensor:
    """Counts, int64, of mean `photons` times the image, whose values are levels of 8 bits.

    The count at which the distribution function passes `chance`, uniform in [0,1): scipy.stats.poisson.ppf from tables.
    """
    table = _distribution(photons)
    level = (image * 255).round().long()
    # One search in all tables: that of level l holds values of l to l + 1.
    found = torch.searchsorted(torch.from_numpy(table.reshape(-1)), chance.double() + _HALF + level, right=True)
    return found - level * table.shape[1]


@cache
def _distribution(photons: int) -> np.ndarray:
    """(256,counts) float64: level + P(count ≤ k) of each level."""
    counts = np.arange(math.ceil(photons + 12 * math.sqrt(photons)))
    level = np.arange(256)[:, None]
    return level + special.pdtr(counts, level * photons / 255)
