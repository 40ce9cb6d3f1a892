"""How far noise can be scaled before the model notices: the largest scale whose change of probabilities is small."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.model.shapes import Float

RESOLUTION = 0.03  # of the scale; another sample of images moves it by more than that
SMALLEST = 2.0**-8  # of the scale started at; what is noticed at this share is no null noise at all


@dataclass(frozen=True)
class Measurement:
    """The model's answer to noise times `scale`, over n images."""

    scale: float
    probability_change: float  # mean over images of |softmax(noised) - softmax(clean)|^2, summed over classes
    agreement: float  # share of images whose argmax is unchanged


@dataclass(frozen=True)
class Radius:
    """Largest scale found within epsilon, and the measurements it rests on.

    `scale` 0 means that the smallest scale tried (the first of `measurements`) already exceeds epsilon;
    probability_change and agreement are then those of that trial. `capped` means that max_scale is within epsilon.
    """

    scale: float
    probability_change: float
    agreement: float
    epsilon: float
    n: int
    capped: bool
    measurements: tuple[Measurement, ...]  # all that were made, by rising scale


def null_radius(data: EncoderData, noise: Float[Tensor, "N D"], *, epsilon: float, max_scale: float = 4.0) -> Radius:
    """Largest a with mean_x |softmax g(u+a v) - softmax g(u)|^2 <= epsilon for noise v (N,D) over the data's states u.

    Use images the noise was not learned from. Starts at 1, doubles or quarters until epsilon lies between two scales,
    then bisects to 3 %: some 8 passes over the images. The change need not grow with the scale, so this is the first
    crossing among the scales TRIED: each one tried below it is within epsilon, each above is not. Deterministic.
    """
    data.check_noise(noise)
    if not (epsilon > 0 and 0 < max_scale < math.inf):
        raise NullspaceError(f"expected epsilon > 0 and a positive finite max_scale, got {epsilon} and {max_scale}")
    made: dict[float, Measurement] = {}

    def within(scale: float) -> bool:
        made[scale] = measure(data, noise, scale=scale)
        return made[scale].probability_change <= epsilon

    low, high = _bracket(within, min(1.0, max_scale), max_scale)
    while low > 0 and high < math.inf and high - low > RESOLUTION * low:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    shown = made[low] if low > 0 else made[min(made)]
    return Radius(
        scale=low,
        probability_change=shown.probability_change,
        agreement=shown.agreement,
        epsilon=epsilon,
        n=data.n,
        capped=high == math.inf,
        measurements=tuple(made[scale] for scale in sorted(made)),
    )


def _bracket(within: Callable[[float], bool], start: float, max_scale: float) -> tuple[float, float]:
    """A scale within epsilon (0: none found) and one beyond it (inf: max_scale is within)."""
    if within(start):
        low = start
        while low < max_scale:
            high = min(2 * low, max_scale)
            if not within(high):
                return low, high
            low = high
        return low, math.inf
    high = start
    while high / 4 >= SMALLEST * start:
        low = high / 4
        if within(low):
            return low, high
        high = low
    return 0.0, high


def measure(data: EncoderData, noise: Tensor, *, scale: float = 1.0) -> Measurement:
    """Change of probabilities and agreement under `scale` * noise (N,D)."""
    return summarised(scale, *changes(data, noise, scale=scale))


def summarised(scale: float, change: Tensor, kept: Tensor) -> Measurement:
    """What `changes` gave for every image, as means."""
    return Measurement(scale, float(change.mean()), float(kept.double().mean()))


@torch.no_grad()
def changes(data: EncoderData, noise: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """As `measure`, image by image on the CPU: squared change of probabilities (n,) float64, class kept (n,) bool."""
    encoder = data.encoder
    added = scale * noise.detach().to(encoder.device)
    found: list[Tensor] = []
    kept: list[Tensor] = []
    batches = (whole.split(data.batch_size) for whole in (data.states, data.clean.logits))
    for states, logits in zip(*batches, strict=True):
        before = logits.to(added)
        after = encoder.logits(encoder.add(states.to(added), added))
        found.append((after.float().softmax(-1) - before.float().softmax(-1)).square().sum(-1).cpu().double())
        kept.append((after.argmax(-1) == before.argmax(-1)).cpu())
    change = torch.cat(found)
    if not bool(change.isfinite().all()):
        raise NullspaceError(
            f"the model's output is not finite at {scale} times the noise; use float32 and finite noise"
        )
    return change, torch.cat(kept)
