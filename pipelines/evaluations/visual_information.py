"""Visual information fidelity: the share of the visual information in a picture that its changed version keeps.

A model of the eye that needs no trained network, which LPIPS and DISTS would have to download.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SIDE = 41  # pixels; smaller images have no scale to compare
_WINDOWS = (17, 9, 5, 3)  # pixels, scale by scale; the deviation of each Gaussian is a fifth of it
_NOISE = 2.0  # variance of the eye's own noise, in levels of 8 bits
_FLAT = 1e-10  # variance below which a window has no information
_TOGETHER = 4  # images compared at once: more do not fit the processor's cache


def vif(images: Tensor, originals: Tensor) -> Tensor:
    """Visual information fidelity of each image (n,), pictures (n,3,H,W) in [0,1]; 1 is perfect, NaN below 41 pixels.

    Sheikh & Bovik (2006), in the pixel domain, averaged over channels. As torchmetrics has it, but windows are applied
    as products of a row and a column, several times as fast.
    """
    if min(images.shape[2:]) < LEAST_SIDE:
        return torch.full((len(images),), torch.nan)
    parts = zip(images.split(_TOGETHER), originals.split(_TOGETHER), strict=True)
    return torch.cat([_fidelity(255 * part, 255 * clean) for part, clean in parts])


def _fidelity(images: Tensor, originals: Tensor) -> Tensor:
    kept = available = images.new_zeros(images.shape[:2])
    for scale, window in enumerate(_WINDOWS):
        if scale:
            windows = [_windows(side, window, images)[::2] for side in images.shape[2:]]
            images, originals = _local(images, *windows), _local(originals, *windows)
        windows = [_windows(side, window, images) for side in images.shape[2:]]
        ours, theirs = _information(images, originals, windows)
        kept, available = kept + ours, available + theirs
    return (kept / available).mean(dim=1)


def _information(images: Tensor, originals: Tensor, windows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Information about `originals` (n,3,h,w) in `images`, and in themselves, at one scale: (n,3) each."""
    mean, mean_clean = _local(images, *windows), _local(originals, *windows)
    variance = (_local(images.square(), *windows) - mean.square()).clamp(min=0)
    clean = (_local(originals.square(), *windows) - mean_clean.square()).clamp(min=0)
    shared = _local(images * originals, *windows) - mean * mean_clean
    # Each window is modelled as a gain of the original, and what is added to it. A negative gain tells nothing of it.
    gain = (shared / (clean + _FLAT)).clamp(min=0).masked_fill((clean < _FLAT) | (variance < _FLAT), 0)
    added = (variance - gain * shared).clamp(min=_FLAT)
    clean = clean.masked_fill(clean < _FLAT, 0)
    kept = torch.log1p(gain.square() * clean / (added + _NOISE))
    return kept.sum(dim=(2, 3)), torch.log1p(clean / _NOISE).sum(dim=(2, 3))


def _local(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows @ values @ columns.T


def _windows(side: int, window: int, like: Tensor) -> Tensor:
    """(side - window + 1, side): Gaussian windows at every place where they fit."""
    apart = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    weights = torch.exp(-apart.square() / (2 * (window / 5) ** 2))
    at = torch.arange(side - window + 1)[:, None] + torch.arange(window)
    found = torch.zeros(len(at), side, dtype=torch.float64)
    return found.scatter_(1, at, (weights / weights.sum()).expand(len(at), -1)).to(like)
