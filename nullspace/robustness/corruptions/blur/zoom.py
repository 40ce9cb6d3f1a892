"""A camera that moves towards its subject: the mean over enlarged versions of the image."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torch.nn import functional

from nullspace.metrics.draws import Draws

_ZOOMS = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # below which, and in which steps


def zoom_blur(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Mean of the image and its versions from 1 up to a largest factor."""
    # arange as published: through rounding it ends with 1.11 itself at severity 1.
    factors = np.arange(1, _ZOOMS[severity - 1][0], _ZOOMS[severity - 1][1])
    total = image.clone()
    for factor in factors:
        total += enlarged(image, float(factor))
    return total / (len(factors) + 1)


def enlarged(image: Tensor, factor: float) -> Tensor:
    """Images (C,H,W): their middle enlarged by `factor` to the size they had; bilinear, corners on corners."""
    sides = image.shape[1:]
    kept = [math.ceil(side / factor) for side in sides]
    top, left = ((side - part) // 2 for side, part in zip(sides, kept, strict=True))
    middle = image[None, :, top : top + kept[0], left : left + kept[1]]
    size = [round(part * factor) for part in kept]
    found = functional.interpolate(middle, size=size, mode="bilinear", align_corners=True)[0]
    top, left = ((large - side) // 2 for large, side in zip(size, sides, strict=True))
    return found[:, top : top + sides[0], left : left + sides[1]]
