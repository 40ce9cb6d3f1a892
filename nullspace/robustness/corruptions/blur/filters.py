"""Gaussian blur of images as a product with a matrix for each side."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Border = Literal["edge", "mirror"]


def gaussian_blur(image: Tensor, sigma: float, *, border: Border = "edge", truncate: float = 4) -> Tensor:
    """Images (C,H,W) blurred by a Gaussian of `sigma` pixels, cut off at `truncate` times that.

    Equivalent to scipy.ndimage.gaussian_filter of mode "nearest" (`edge`: the border is repeated) or "reflect"
    (`mirror`: the image is, border included).
    """
    rows, columns = (gaussian_matrix(side, sigma, border, truncate) for side in image.shape[-2:])
    return rows @ image @ columns.T


@lru_cache(maxsize=32)
def gaussian_matrix(side: int, sigma: float, border: Border, truncate: float) -> Tensor:
    """(side,side) float32: what every place takes of the others; rows sum to 1."""
    reach = int(truncate * sigma + 0.5)
    apart = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(apart.double() ** 2) / (2 * sigma**2))
    seen = torch.arange(side)[:, None] + apart
    if border == "edge":
        seen = seen.clamp(0, side - 1)
    else:
        seen = seen % (2 * side)
        seen = torch.minimum(seen, 2 * side - 1 - seen)
    found = torch.zeros(side, side, dtype=torch.float64)
    return found.scatter_add_(1, seen, (weights / weights.sum()).expand(side, -1)).float()
