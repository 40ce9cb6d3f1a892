"""How large a noise may be with a guarantee: mean |Δsoftmax|² <= ε on images that were not used to choose it.

Scales are tested one after the other on calibration images, from small to large, each by `upper_mean_bound`, until one
is not shown to be within ε. The scales tried are fixed beforehand and testing stops at the first failure, so the chance
that any scale passed wrongly is at most 1 - confidence, although many are tried and whether or not the change grows
with the scale: fixed-sequence testing as in Learn then Test (Angelopoulos et al., 2021, arXiv 2110.01052); the bounded
mean as in risk-controlling prediction sets (Bates et al., 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.mean_bound import upper_mean_bound
from nullspace.metrics.radius import Measurement, changes, summarised
from nullspace.metrics.sample_size import LARGEST_CHANGE, require_enough
from nullspace.model.shapes import Float

# Shares of the scale expected: wide steps where nothing is decided, and one over twice what is expected at the end.
STEPS = (1 / 64, 1 / 16, *(0.25 * 1.1**k for k in range(8)), *(0.53 * 1.05**k for k in range(29)))


@dataclass(frozen=True)
class CalibratedScale:
    """The largest scale whose mean |Δsoftmax|² is at most `bound` <= `epsilon` at `confidence`, from n images.

    `probability_change` and `agreement` are means over the n calibration images at that scale; `tested` holds every
    scale tried with its bound, the last one beyond epsilon unless all were within.
    """

    scale: float
    bound: float
    epsilon: float
    confidence: float
    n: int
    probability_change: float
    agreement: float
    tested: tuple[tuple[float, float], ...]


def calibrate_scale(
    data: EncoderData,
    noise: Float[Tensor, "N D"],
    *,
    epsilon: float,
    expected: float = 1.0,
    confidence: float = 0.95,
) -> CalibratedScale:
    """Largest scale of `noise` (N,D) shown to be within epsilon on images of the same kind as the data.

    The n calibration images are a random draw in random order, used for nothing else: neither
    to learn the noise nor to choose it. `expected`: the scale at which the change is thought to reach epsilon, found
    on other images; it places the scales that are tried. Raises NullspaceError when n is too small for any scale, with
    the n that is needed, and when the smallest scale tried is not shown to be within epsilon.
    """
    require_enough(data.n, epsilon, confidence)
    if not 0 < expected < math.inf:
        raise NullspaceError(f"expected a positive finite scale to begin with, got {expected}")
    passed: tuple[float, float, Measurement] | None = None
    tested: list[tuple[float, float]] = []
    for scale in (expected * step for step in STEPS):
        found, kept = changes(data, noise, scale=scale)
        found = found.clamp(max=LARGEST_CHANGE)  # which float32 may pass by its rounding
        bound = upper_mean_bound(found, target=epsilon, confidence=confidence, largest=LARGEST_CHANGE)
        tested.append((scale, bound))
        if bound > epsilon:
            break
        passed = scale, bound, summarised(scale, found, kept)
    if passed is None:
        raise NullspaceError(
            f"expected noise that at {tested[0][0]:.2g} of its size is shown to be within epsilon = {epsilon:g}, got "
            f"an upper bound of {tested[0][1]:.3g} at confidence {confidence:g} from {data.n} calibration images; "
            "give more of them, raise epsilon, or learn the noise longer"
        )
    scale, bound, at = passed
    return CalibratedScale(
        scale, bound, epsilon, confidence, data.n, at.probability_change, at.agreement, tuple(tested)
    )
