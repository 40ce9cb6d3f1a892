"""A camera that moves: every point becomes a line that fades to one end.

The published code leaves this to ImageMagick. Here are its weights, half of a Gaussian along the line, at whole pixels,
as ImageMagick 6 takes them; the border is repeated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.metrics.draws import Draws

_RADIUS_AND_SIGMA = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # pixels
_LEAST, _MOST = -45.0, 45.0  # degrees


def motion_blur(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Along a random line within 45 degrees of the horizontal."""
    return moved(image, *_RADIUS_AND_SIGMA[severity - 1], angle(draws, _LEAST, _MOST))


def angle(draws: Draws, least: float, most: float) -> float:
    """A random angle in degrees."""
    return least + (most - least) * float(draws.uniform(1)[0, 0])


def moved(image: Tensor, radius: int, sigma: float, degrees: float) -> Tensor:
    """Images (C,H,W) moved along a line of 2·radius + 1 pixels in a direction, 0 to the right and 90 downwards."""
    reach, (height, width) = 2 * radius, image.shape[1:]
    padded = functional.pad(image[None], [reach] * 4, mode="replicate")[0]
    total = torch.zeros_like(image)
    for weight, (down, right) in zip(weights(radius, sigma), steps(radius, degrees), strict=True):
        seen = padded[:, reach + down : reach + down + height, reach + right : reach + right + width]
        total.add_(seen, alpha=weight)
    return total


def weights(radius: int, sigma: float) -> list[float]:
    """Half a Gaussian at 2·radius + 1 pixels, of sum 1."""
    found = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(2 * radius + 1)]
    return [weight / sum(found) for weight in found]


def steps(radius: int, degrees: float) -> list[tuple[int, int]]:
    """Rows and columns of the pixels on the line, from its strong end on."""
    turn = math.radians(degrees)
    directions = math.sin(turn), math.cos(turn)
    found = [[math.ceil(step * each - 0.5) for each in directions] for step in range(2 * radius + 1)]
    return [(down, right) for down, right in found]
