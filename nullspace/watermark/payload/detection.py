"""How sure a mark is there: with a wrong key every reading is uniformly random, so chance has an exact law.

A slot is read as a phase between lattice points whose offset only the key knows. For an image that does not know the
key the phase is uniform, whatever the image; turned into a normal number, added up over the slots of a bit, squared and
added up over bits it follows the chi-square distribution. No model of images is needed, and no training data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

_EDGE = 1e-4  # a reading this close to a lattice point counts as this far: the law stays on the safe side


@dataclass(frozen=True)
class Detection:
    """What was found in one image.

    `p_value` is the probability that an image without this mark gives at least this evidence in any of the `tried`
    readings. `message` is None where nothing was found, or where too much is destroyed to be read. `confidence` is the
    share of embedded bits that were read as they were sent, known once the message is. `psnr` is the strength it was
    embedded with, `blur` the standard deviation in pixels of a blur that was undone first.
    """

    found: bool
    message: bytes | None
    p_value: float
    confidence: float | None
    length: int
    psnr: float
    tried: int
    as_read: bytes  # the message's bits without mending
    blur: float = 0.0

    @property
    def rank(self) -> tuple[bool, float]:
        """The greater of two readings of one image is the better: with a message, then the less likely by chance."""
        return self.message is not None, -self.p_value


def scores(phases: Tensor) -> Tensor:
    """Phases in periods to what speaks for a 1 (+) or a 0 (-); standard normal when phases are uniform.

    A 1 lies at phase 0, a 0 at phase 1/2; halfway nothing is said.
    """
    share = (2 * (phases - phases.round()).abs()).clamp(_EDGE, 1 - _EDGE)  # 0 at a 1, 1 at a 0
    return -torch.special.ndtri(share)


def bit_scores(slots: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """Scores (...,n) of slots, dealt to bits in turn, to those of bits (...,bits): standard normal again.

    `weights` from 0 to 1, which broadcast to `slots`, may depend on the image, not on the key: the law holds for any. A
    bit without weight scores 0.
    """
    weights = torch.ones_like(slots) if weights is None else weights
    summed, squares = (dealt(each, bits) for each in (slots * weights, weights.square()))
    return torch.where(squares > 0, summed / squares.clamp_min(1e-12).sqrt(), 0.0)


def dealt(values: Tensor, bits: int) -> Tensor:
    """Sums (...,bits) of values (...,n) dealt in turn."""
    rounds, rest = divmod(values.shape[-1], bits)
    summed = values[..., : rounds * bits].unflatten(-1, (rounds, bits)).sum(-2)
    summed[..., :rest] += values[..., rounds * bits :]
    return summed


def log_p_value(scores_of_bits: Tensor) -> Tensor:
    """Natural logarithm of the probability that chance gives at least this: (...,bits) to (...,), float64."""
    bits = scores_of_bits.shape[-1]
    energy = scores_of_bits.double().square().sum(-1)
    return torch.from_numpy(_log_chi2_sf(energy.cpu().numpy(), bits))


def _log_chi2_sf(energy: np.ndarray, bits: int) -> np.ndarray:
    """log of the chi-square tail, also where the tail itself is below the smallest number."""
    shape, half = bits / 2, energy / 2
    tail = special.gammaincc(shape, half)
    with np.errstate(divide="ignore"):
        direct = np.log(tail)
    # Q(a,x) = x^(a-1) e^-x / Gamma(a) · (1 + (a-1)/(x-a+2+…)): Legendre's continued fraction, its first terms a bound.
    far = (shape - 1) * np.log(half) - half - special.gammaln(shape) - np.log1p(-np.minimum((shape - 1) / half, 0.999))
    return np.where(tail > 1e-290, direct, far)
