"""Snow and fog.

The streaks of snow are moved by `motion` instead of ImageMagick, and stay as they are where the published code cuts
them to 8 bits. Fog of images of other sizes than 224 is the corner of a map of the next power of 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.blur.motion import angle, moved
from nullspace.robustness.corruptions.blur.zoom import enlarged
from nullspace.robustness.corruptions.plasma import plasma


@dataclass(frozen=True)
class _Snow:
    mean: float
    deviation: float
    size: float  # of a flake, pixels
    threshold: float
    radius: int  # of a streak, pixels
    sigma: float
    kept: float  # of the image


_SNOW = (
    _Snow(0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    _Snow(0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    _Snow(0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    _Snow(0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    _Snow(0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # strength, decay of the cloud
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def snow(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """A paler image with streaks of flakes, the same ones turned upside down added to them."""
    settings = _SNOW[severity - 1]
    flakes = settings.mean + settings.deviation * draws.normal(1, *image.shape[1:])[0]
    flakes = enlarged(flakes, settings.size)
    flakes = flakes.masked_fill(flakes < settings.threshold, 0).clamp(0, 1)
    streaks = moved(flakes, settings.radius, settings.sigma, angle(draws, -135, -45))
    grey = torch.einsum("c,chw->hw", torch.tensor(_LUMA), image)
    pale = torch.maximum(image, grey * 1.5 + 0.5)
    return settings.kept * image + (1 - settings.kept) * pale + streaks + streaks.flip(1, 2)


def fog(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """The image beneath a cloud, made as bright at its brightest as it was."""
    strength, decay = _FOG[severity - 1]
    height, width = image.shape[1:]
    most = float(image.max())
    cloud = torch.from_numpy(plasma((height, width), decay, draws)).float()
    return (image + strength * cloud) * most / (most + strength)
