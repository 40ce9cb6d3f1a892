"""How far a picture is from its original, by PSNR and SSIM, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

_SSIM = (0.01**2, 0.03**2)  # its two constants, for a peak of 1
_TOGETHER = 4  # images compared at once: more do not fit the processor's cache


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """PSNR in dB of each image (n,) against its original, peak 1."""
    return -10 * (images - originals).square().mean(dim=(1, 2, 3)).log10()


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """SSIM of each image (n,) against its original (Wang et al. 2004, Gaussian window), for a peak of 1.

    As torchmetrics has it, but the window is applied as a product of a row and a column, many times as fast.
    """
    windows = [_windows(side, images) for side in images.shape[2:]]
    parts = zip(images.split(_TOGETHER), originals.split(_TOGETHER), strict=True)
    return torch.cat([_alike(*part, *windows) for part in parts])


def _alike(images: Tensor, originals: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    def local(values: Tensor) -> Tensor:
        return rows @ values @ columns.T

    ours, theirs = local(images), local(originals)
    mixed = local(images * originals) - ours * theirs
    spread = sum(
        (local(each.square()) - mean.square()).clamp(min=0) for each, mean in ((images, ours), (originals, theirs))
    )
    equal = (2 * ours * theirs + _SSIM[0]) / (ours.square() + theirs.square() + _SSIM[0])
    return (equal * (2 * mixed + _SSIM[1]) / (spread + _SSIM[1])).mean(dim=(1, 2, 3))


def _windows(side: int, like: Tensor) -> Tensor:
    """(side, side): Gaussian windows of 11 pixels and sigma 1.5 around every place, pixels mirrored at the edges."""
    apart = torch.arange(-5, 6)
    window = torch.exp(-apart.double().square() / (2 * 1.5**2))
    seen = (torch.arange(side)[:, None] + apart).abs()
    seen = torch.where(seen < side, seen, 2 * (side - 1) - seen)
    found = torch.zeros(side, side, dtype=torch.float64)
    return found.scatter_add_(1, seen, (window / window.sum()).expand(side, -1)).to(like)
