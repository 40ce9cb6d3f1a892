"""Noise grown to an epsilon: the largest relative norm at which probabilities are shown to change little.

By continuation: noise learned at one norm is where learning at the next, larger one starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.radius import SMALLEST, Radius, null_radius
from nullspace.metrics.sample_size import require_enough
from nullspace.noise.calibrated_scale import CalibratedScale, calibrate_scale
from nullspace.noise.learn import learn_noise
from nullspace.noise.learner import NoiseSettings

MAX_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class GrownNoise:
    """The largest noise found whose mean |Δsoftmax|² is at most epsilon, with the guarantee, and how it was found.

    `noise` (N,D) is already scaled to `relative_norm`; `guarantee` rests on images used for nothing else, `radius` on
    those that chose the round. `rounds` are (relative norm learned at, relative norm reached on those).
    """

    noise: Tensor
    relative_norm: float
    guarantee: CalibratedScale
    radius: Radius
    rounds: tuple[tuple[float, float], ...]
    image_steps: int


def grow_noise(
    data: EncoderData,
    validation: EncoderData,
    calibration: EncoderData,
    settings: NoiseSettings,
    *,
    epsilon: float,
    confidence: float = 0.95,
    growth: float = 1.5,
    micro_batch: int | None = None,
) -> GrownNoise:
    """Largest relative norm shown to have mean |Δsoftmax|² <= epsilon, at `confidence`, on images like `calibration`.

    Learns at `settings.relative_norm`, then again and again at `growth` times the norm that was reached on
    `validation`, starting from what was found, until a round reaches no further, at most MAX_ROUNDS times. Each round
    takes `settings.steps`. `calibrate_scale` decides the final scale. The three sets of images share none, and
    `calibration` is in random order.
    Raises NullspaceError, also when nothing is shown to be within epsilon.
    """
    if not growth > 1 or settings.scope != "universal":
        raise NullspaceError(f'expected growth > 1 and scope "universal", got {growth} and {settings.scope!r}')
    require_enough(calibration.n, epsilon, confidence)  # before anything is learned
    validation, calibration = (replace(each, batch_size=settings.batch_size) for each in (validation, calibration))
    best: tuple[Tensor, Radius, float, float] | None = None
    start, norm, steps = None, settings.relative_norm, 0
    rounds: list[tuple[float, float]] = []
    for _ in range(MAX_ROUNDS):
        learned = learn_noise(data, replace(settings, relative_norm=norm), start=start, micro_batch=micro_batch)
        steps += learned.image_steps
        radius = null_radius(validation, learned.noise, epsilon=epsilon)
        reached = radius.scale * learned.relative_norm
        rounds.append((norm, reached))
        if best is not None and reached <= best[2]:
            break
        best = (learned.noise, radius, reached, learned.relative_norm)
        start, norm = learned.noise, max(growth * reached, norm / 4)
    assert best is not None  # the first round always sets it
    noise, radius, _, learned_at = best
    expected = radius.scale or SMALLEST
    guarantee = calibrate_scale(calibration, noise, epsilon=epsilon, expected=expected, confidence=confidence)
    scale = guarantee.scale
    return GrownNoise(scale * noise, scale * learned_at, guarantee, radius, tuple(rounds), steps)
