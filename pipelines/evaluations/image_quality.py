"""How far a picture is from its original, by measures people use; each image by itself."""

from __future__ import annotations

import torch
from torch import Tensor

_SSIM = (0.01**2, 0.03**2)  # its two constants, for a peak of 1
LEAST_SIDE = 41  # pixels; below, visual information fidelity has no scales left to compare


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """PSNR in dB of each image (n,) against its original, peak 1."""
    return -10 * (images - originals).square().mean(dim=(1, 2, 3)).log10()


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """SSIM of each image (n,) against its original (Wang et al. 2004, Gaussian window), for a peak of 1.

    As torchmetrics has it, but the window is applied as a product of a row and a column, many times as fast.
    """
    rows, columns = (_windows(side, images) for side in images.shape[2:])

    def local(values: Tensor) -> Tensor:
        return rows @ values @ columns.T

    ours, theirs = local(images), local(originals)
    mixed = local(images * originals) - ours * theirs
    spread = sum(
        (local(each.square()) - mean.square()).clamp(min=0) for each, mean in ((images, ours), (originals, theirs))
    )
    alike = (2 * ours * theirs + _SSIM[0]) / (ours.square() + theirs.square() + _SSIM[0])
    return (alike * (2 * mixed + _SSIM[1]) / (spread + _SSIM[1])).mean(dim=(1, 2, 3))


def _windows(side: int, like: Tensor) -> Tensor:
    """(side, side): Gaussian windows of 11 pixels and sigma 1.5 around every place, pixels mirrored at the edges."""
    apart = torch.arange(-5, 6)
    window = torch.exp(-apart.double().square() / (2 * 1.5**2))
    seen = (torch.arange(side)[:, None] + apart).abs()
    seen = torch.where(seen < side, seen, 2 * (side - 1) - seen)
    found = torch.zeros(side, side, dtype=torch.float64)
    return found.scatter_add_(1, seen, (window / window.sum()).expand(side, -1)).to(like)


def vif(images: Tensor, originals: Tensor) -> Tensor:
    """Visual information fidelity (Sheikh & Bovik 2006) of each image (n,); 1 is perfect, NaN below 41 pixels.

    A model of the eye that needs no trained network, which LPIPS and DISTS would have to download.
    """
    from torchmetrics.functional.image import visual_information_fidelity

    if min(images.shape[2:]) < LEAST_SIDE:
        return torch.full((len(images),), torch.nan)
    each = zip(images.split(1), originals.split(1), strict=True)
    return torch.stack([visual_information_fidelity(image * 255, original * 255) for image, original in each])
