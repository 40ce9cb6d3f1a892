"""The evidence for a mark: with a wrong key every reading is uniformly random, so the null distribution is exact.

A site is read as a phase between lattice points whose offset only the key knows. For an image made without the
key the phase is uniform, whatever the image. Mapped to a standard normal score, summed over the sites of a bit, squared
and summed over bits it follows the chi-square distribution. No model of images and no training data are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

_EDGE = 1e-4  # a reading closer to a lattice point counts as this far from it: p-values stay conservative


@dataclass(frozen=True)
class Detection:
    """What was found in one image.

    `p_value` is the probability that an image without this mark gives at least this evidence in any of the `tried`
    readings. `message` is None where nothing was found, or where too much is destroyed to decode it. `bit_agreement` is
    the share of embedded bits that were read as embedded, known once the message is. `psnr` is the strength it was
    embedded with, `blur` the standard deviation in pixels of a blur that was undone first.
    """

    found: bool
    message: bytes | None
    p_value: float
    bit_agreement: float | None
    length: int
    psnr: float
    tried: int
    as_read: bytes  # the message's bits without error correction
    blur: float = 0.0

    @property
    def rank(self) -> tuple[bool, float]:
        """The greater of two readings of one image is the better: one with a message, then the smaller p-value."""
        return self.message is not None, -self.p_value


def scores(phases: Tensor) -> Tensor:
    """Scores of phases in periods: evidence for a 1 (+) or a 0 (-), standard normal when phases are uniform.

    A 1 lies at phase 0, a 0 at phase 1/2; halfway between them the score is 0.
    """
    share = (2 * (phases - phases.round()).abs()).clamp(_EDGE, 1 - _EDGE)  # 0 at a 1, 1 at a 0
    return -torch.special.ndtri(share)


def bit_scores(sites: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """Scores (...,bits) of bits from those (...,n) of the sites assigned to them in turn: standard normal again.

    `weights` from 0 to 1, which broadcast to `sites`, may depend on the image, not on the key: the distribution holds
    for any. A bit without weight scores 0.
    """
    weights = torch.ones_like(sites) if weights is None else weights
    summed, squares = (sums_by_bit(each, bits) for each in (sites * weights, weights.square()))
    return torch.where(squares > 0, summed / squares.clamp_min(1e-12).sqrt(), 0.0)


def sums_by_bit(values: Tensor, bits: int) -> Tensor:
    """Sums (...,bits) of values (...,n) of sites, assigned to bits in turn."""
    rounds, rest = divmod(values.shape[-1], bits)
    summed = values[..., : rounds * bits].unflatten(-1, (rounds, bits)).sum(-2)
    summed[..., :rest] += values[..., rounds * bits :]
    return summed


def log_p_value(scores_of_bits: Tensor) -> Tensor:
    """Natural logarithm (...,) of the p-value of scores (...,bits), by chi-square, float64."""
    bits = scores_of_bits.shape[-1]
    energy = scores_of_bits.double().square().sum(-1)
    return torch.from_numpy(_log_chi2_sf(energy.cpu().numpy(), bits))


def _log_chi2_sf(energy: np.ndarray, bits: int) -> np.ndarray:
    """Logarithm of the chi-square tail, also where the tail itself underflows."""
    shape, half = bits / 2, energy / 2
    tail = special.gammaincc(shape, half)
    with np.errstate(divide="ignore"):
        direct = np.log(tail)
    # Q(a,x) = x^(a-1) e^-x / Gamma(a) · (1 + (a-1)/(x-a+2+…)): Legendre's continued fraction, its first terms a bound.
    far = (shape - 1) * np.log(half) - half - special.gammaln(shape) - np.log1p(-np.minimum((shape - 1) / half, 0.999))
    return np.where(tail > 1e-290, direct, far)
