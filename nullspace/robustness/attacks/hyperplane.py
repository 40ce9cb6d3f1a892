"""The nearest point of a hyperplane inside the pixel range: what each step of FAB asks for.

Of all z in [0,1] with ⟨w,z⟩ = b the one nearest to x in Linf or L2 is clip(x + t·s) with s the sign of w, or w itself
(from the optimality conditions, Croce & Hein 2020, section 2.2); ⟨w,z⟩ is monotone in t, so t is found by bisection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.robustness.attacks.norm import NormName, column

_BISECTIONS = 24
_TINY = 1e-30


def nearest_on(points: Tensor, normal: Tensor, lacking: Tensor, norm: NormName) -> Tensor:
    """The change (n,3,H,W) of least norm of `points` in [0,1] that raises ⟨normal, point⟩ by `lacking` (n,).

    `lacking` may be negative. Where the range does not allow that much, the change that goes furthest.
    """
    normal = normal * column(lacking.sign())
    wanted = lacking.abs()
    along = normal.sign() if norm == "linf" else normal
    # Beyond `most` every pixel that is to move is at its end; it differs by orders from pixel to pixel for L2.
    least, most = torch.zeros_like(wanted), _first_bound(points, normal, along, wanted)
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        short = _gain(points, normal, along, middle) < wanted
        least, most = torch.where(short, middle, least), torch.where(short, most, middle)
    return (points + column(most) * along).clamp(0, 1) - points


def _first_bound(points: Tensor, normal: Tensor, along: Tensor, wanted: Tensor) -> Tensor:
    """A multiple (n,) of `along` that gains enough, doubled from where a range without an end would gain it."""
    slope = (normal * along).sum(dim=(1, 2, 3))
    bound = wanted / slope.clamp_min(_TINY)
    for _ in range(_BISECTIONS):
        short = _gain(points, normal, along, bound) < wanted
        if not bool(short.any()):
            break
        bound = torch.where(short, 2 * bound, bound)
    return bound


def _gain(points: Tensor, normal: Tensor, along: Tensor, multiple: Tensor) -> Tensor:
    moved = (points + column(multiple) * along).clamp(0, 1) - points
    return (normal * moved).sum(dim=(1, 2, 3))
