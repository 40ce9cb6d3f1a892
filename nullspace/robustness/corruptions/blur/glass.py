"""Frosted glass: pixels take the value of a near one, again and again, between two blurs.

The published code means to swap pixels; numpy's views make it copy one over the other. The published files are made
that way, and so is this. Between the blurs the published code cuts values to 8 bits, here they stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.blur.filters import gaussian_blur

_SETTINGS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, farthest pixel, times


def glass_blur(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Blurred, with pixels copied from near ones, and blurred again."""
    sigma, farthest, times = _SETTINGS[severity - 1]
    values = gaussian_blur(image, sigma).flatten(1)
    height, width = image.shape[1:]
    for number in range(times):
        chance = draws.stream(number).uniform(2, height, width)[0]
        away = (chance * 2 * farthest).long() - farthest
        values = values[:, copied(away, farthest)]
    return gaussian_blur(values.view_as(image), sigma)


def copied(away: Tensor, farthest: int) -> Tensor:
    """For every pixel (H·W,) the one whose value it ends with.

    From the last pixel to the first one, but for a border of `farthest` pixels, each takes the value that the pixel
    `away` (2,H,W; rows and columns) has by then. Where that one took another value before, its own source counts:
    a chain of pixels, which ends because it only goes on to later ones.
    """
    height, width = away.shape[1:]
    own = torch.arange(height * width).view(height, width)
    turn = torch.zeros(height, width, dtype=torch.bool)
    turn[farthest + 1 : height - farthest + 1, farthest + 1 : width - farthest + 1] = True
    takes = torch.where(turn, own + away[0] * width + away[1], own).flatten()
    own, turn = own.flatten(), turn.flatten()
    last = torch.where(turn[takes] & (takes > own), takes, own)
    while True:  # each round doubles how far along its chain a pixel looks
        further = last[last]
        if torch.equal(further, last):
            return takes[last]
        last = further
