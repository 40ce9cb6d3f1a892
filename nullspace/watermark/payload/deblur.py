"""Deblurring before reading: restores the fine patterns after small Gaussian blurs, resizes there and back, and zooms.

A site is read against a lattice, so a pattern that lost a fifth of its amplitude is misread even without any noise.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nullspace.model.shapes import Float
from nullspace.watermark.luma import luma

_DAMPING = 3e-3  # of the squared gain; less lets noise grow, more leaves a blur of 1 pixel half undone
_REACH = 4  # standard deviations


def sharpened(images: Float[Tensor, "B 3 H W"], blur: float) -> Float[Tensor, "B 3 H W"]:
    """Luma of images (B,3,H,W) in [0,1], as grey images (B,3,H,W), as it was before a Gaussian blur.

    `blur` is its standard deviation in pixels. The regularised inverse of the blur; values may leave [0,1].
    """
    down, across = (_inverse(size, blur).to(images) for size in images.shape[2:])
    return (down @ luma(images) @ across.T)[:, None].expand(-1, 3, -1, -1)


@lru_cache(maxsize=16)
def _inverse(size: int, blur: float) -> Tensor:
    """Regularised inverse (size,size), float32, of blurring along one axis with the edge repeated."""
    at = torch.arange(size)
    reach = max(1, round(_REACH * blur))
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-steps.double().square() / (2 * blur**2))
    blurring = torch.zeros(size, size, dtype=torch.float64)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        blurring[at, (at + step).clamp(0, size - 1)] += weight
    damped = blurring.T @ blurring + _DAMPING * torch.eye(size, dtype=torch.float64)
    inverse = torch.linalg.solve(damped, blurring.T)
    return (inverse / inverse.sum(dim=1, keepdim=True)).float()  # flat areas stay as they are
