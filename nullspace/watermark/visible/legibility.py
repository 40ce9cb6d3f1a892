"""Legibility of a mark of texture: local contrast of brightness inside the letters against that beside them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.errors import NullspaceError
from nullspace.model.shapes import Float
from nullspace.watermark.luma import luma

_WINDOW = 1 / 28  # of the shorter side: the neighbourhood in which contrast is taken, 8 pixels of 224
_BESIDE = 1 / 7  # of the shorter side: width of the surroundings that the mark is compared with


def texture_contrast(
    images: Float[Tensor, "B 3 H W"], alpha: Float[Tensor, "H W"], *, shrink: int = 1
) -> Float[Tensor, " B"]:
    """(in - out) / (in + out) per image (B,), of the root mean square local contrast under a mark and beside it.

    Images (B,3,H,W) in [0,1], `alpha` (H,W) the mark's opacity; `shrink` n compares pictures reduced n times. Local
    contrast is the deviation of brightness from its mean over a window. 1 is a mark on a plain background, 0 one that
    cannot be distinguished from its background; the value of the clean picture is the control. "Beside" is a margin of
    a seventh of the shorter side all around. A mark with nothing beside it has contrast 0.
    """
    if images.ndim != 4 or tuple(alpha.shape) != tuple(images.shape[2:]):
        raise NullspaceError(
            f"expected images (B,3,H,W) and alpha (H,W) of their size, got {tuple(images.shape)} and "
            f"{tuple(alpha.shape)}"
        )
    bright, cover = luma(images.double())[:, None], alpha.to(images).double()[None, None]
    if shrink > 1:
        bright, cover = (functional.avg_pool2d(each, shrink) for each in (bright, cover))
    cover = cover / cover.amax().clamp_min(1e-12)
    side = min(cover.shape[-2:])
    deviation = (bright - _mean(bright, max(1, round(side * _WINDOW / 2)))).square()
    inside = (cover > 0.5).double()
    around = (_reach(inside, max(1, round(side * _BESIDE))) * (cover <= 0)).double()
    if not bool(around.any()) or not bool(inside.any()):
        return torch.zeros(len(images), dtype=torch.float64, device=images.device)
    within, beside = (((deviation * part).sum((1, 2, 3)) / part.sum()).sqrt() for part in (inside, around))
    return (within - beside) / (within + beside).clamp_min(1e-12)


def _mean(values: Tensor, reach: int) -> Tensor:
    """Mean over a window of 2·reach + 1 pixels a side, without padding: along columns, then along rows."""
    down = functional.avg_pool2d(values, (2 * reach + 1, 1), 1, (reach, 0), count_include_pad=False)
    return functional.avg_pool2d(down, (1, 2 * reach + 1), 1, (0, reach), count_include_pad=False)


def _reach(inside: Tensor, reach: int) -> Tensor:
    """The largest value within `reach` pixels across and down."""
    down = functional.max_pool2d(inside, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    return functional.max_pool2d(down, (1, 2 * reach + 1), stride=1, padding=(0, reach))
