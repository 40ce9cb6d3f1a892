"""Elastic: a random affine map, then every pixel moved by a smooth random field (Simard et al. 2003).

The lengths are shares of a side times 244/224, a slip of the published code that its files have. The field is random
along both axes alike; on images that are not square, lengths are shares of the larger side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.blur.filters import gaussian_blur

_SETTINGS = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
"""How far pixels move, how smooth the field is, how far three points of the affine map move."""
_SLIP = 244 / 224


def elastic_transform(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Bilinear twice, as published; what lies outside is mirrored."""
    height, width = image.shape[1:]
    far, smooth, affine = (_SLIP * max(height, width) * share for share in _SETTINGS[severity - 1])
    corners = affine * (2 * draws.uniform(3, 2)[0].double().numpy() - 1)
    matrix = affine_of(corners, (height, width))
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = (row[0] * columns + row[1] * rows + row[2] for row in matrix)
    turned = _sampled(image, torch.from_numpy(x), torch.from_numpy(y), corners=True)
    field = 2 * draws.stream(1).uniform(2, height, width)[0] - 1
    by = far * gaussian_blur(field, smooth, border="mirror", truncate=3)
    return _sampled(turned, torch.from_numpy(columns) + by[0], torch.from_numpy(rows) + by[1], corners=False)


def affine_of(by: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The map (2,3) from places (x, y, 1) of the new image to (x, y) of the old one.

    Three corners of a square in the middle, of a third of the smaller side, move by (3,2) pixels from old to new.
    """
    height, width = shape
    middle, reach = np.array([width // 2, height // 2]), min(shape) // 3
    old = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    return np.linalg.solve(np.column_stack([old + by, np.ones(3)]), old).T


def _sampled(image: Tensor, x: Tensor, y: Tensor, *, corners: bool) -> Tensor:
    """The image (C,H,W) at places in pixels. Mirrored at the middle of the outermost pixel with `corners`, else at its
    outer edge."""
    height, width = image.shape[1:]
    shift, sides = (0, (width - 1, height - 1)) if corners else (0.5, (width, height))
    grid = torch.stack([2 * (each + shift) / side - 1 for each, side in zip((x, y), sides, strict=True)], dim=-1)
    found = functional.grid_sample(
        image[None], grid[None].float(), mode="bilinear", padding_mode="reflection", align_corners=corners
    )
    return found[0]
