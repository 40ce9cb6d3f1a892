"""Where a fooled picture may lie: within the pixel range, and near the look that people are to see.

Bounds are whole levels of 8 bits, so that what holds for a picture holds for its file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.images import check_unit_range

LEVELS = 255
_BISECTIONS = 40  # of a factor between 0 and 1: below the rounding of float32
_SLACK = 1e-3  # of a level: ε = 4/255 in float32 is not exactly four levels


@dataclass(frozen=True, eq=False)
class Ball:
    """Pictures (B,3,H,W) in levels between `low` and `high`, and within `radius` of `centre` if that is given.

    `radius` is a root mean square in levels: the Euclidean distance over the square root of the number of pixel values.
    """

    centre: Tensor
    low: Tensor
    high: Tensor
    radius: float | None = None

    @classmethod
    def around(cls, looks: Tensor, *, epsilon: float | None = None, rms: float | None = None) -> Ball:
        """The ball around `looks` (B,3,H,W) in [0,1], which are taken as 8 bits keep them.

        `epsilon` bounds every change of a pixel value (Linf), `rms` their root mean square (L2), both relative to the
        pixel range; with neither, pixels may take any value. Raises NullspaceError when both are given or one allows no
        change, ImageRangeError when looks leave [0,1].
        """
        check_unit_range(looks)
        if epsilon is not None and rms is not None:
            raise NullspaceError(f"expected epsilon or rms, not both, got {epsilon} and {rms}")
        if epsilon is not None and not epsilon * LEVELS >= 1 - _SLACK:
            raise NullspaceError(f"expected epsilon >= 1/255, the least that 8 bits can change, got {epsilon}")
        if rms is not None and not rms > 0:
            raise NullspaceError(f"expected rms > 0, got {rms}")
        centre = (looks.detach() * LEVELS).round()
        reach = LEVELS if epsilon is None else int(epsilon * LEVELS + _SLACK)
        low, high = (centre - reach).clamp_min(0), (centre + reach).clamp_max(LEVELS)
        return cls(centre, low, high, None if rms is None else rms * LEVELS)

    @property
    def reach(self) -> float:
        """How far a pixel value may usually go, in levels: the unit of an optimiser's steps."""
        if self.radius is not None:
            return self.radius
        return min(float((self.high - self.low).amax()) / 2, LEVELS / 8)

    def nearest(self, pictures: Tensor) -> Tensor:
        """The nearest pictures of the ball, in levels (real numbers).

        With a radius: the projection onto box ∩ ball scales the change by one factor per picture and clips it (from the
        optimality conditions; the factor, of which the norm is a monotone function, by bisection).
        """
        if self.radius is None:
            return torch.minimum(torch.maximum(pictures, self.low), self.high)
        change, low, high = pictures - self.centre, self.low - self.centre, self.high - self.centre
        least = torch.zeros(len(pictures), 1, 1, 1, dtype=change.dtype, device=change.device)
        most = torch.ones_like(least)
        if bool((_rms(change.clamp(low, high)) > self.radius).any()):
            for _ in range(_BISECTIONS):
                middle = (least + most) / 2
                inside = _rms((middle * change).clamp(low, high)) <= self.radius
                least, most = torch.where(inside, middle, least), torch.where(inside, most, middle)
            fits = _rms(change.clamp(low, high)) <= self.radius
            factor = torch.where(fits, torch.ones_like(least), least)
        else:
            factor = most
        return self.centre + (factor * change).clamp(low, high)

    def rounded(self, pictures: Tensor) -> Tensor:
        """Pictures of the ball in whole levels: the nearest, or towards the centre where that would leave the ball."""
        nearest = pictures.round()
        if self.radius is None:
            return nearest  # the bounds are whole levels
        inwards = self.centre + (pictures - self.centre).trunc()
        return torch.where(_rms(nearest - self.centre) <= self.radius, nearest, inwards)

    def subset(self, index: Tensor) -> Ball:
        """The balls of some of the pictures."""
        return Ball(self.centre[index], self.low[index], self.high[index], self.radius)


def _rms(change: Tensor) -> Tensor:
    return change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
