"""How far a picture is from its original, by measures people use; each image by itself."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SIDE = 41  # pixels; below, visual information fidelity has no scales left to compare


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """PSNR in dB of each image (n,) against its original, peak 1."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(images, originals, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """SSIM of each image (n,) against its original (Wang et al. 2004, Gaussian window)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(images, originals, data_range=1.0, reduction="none")
    return torch.as_tensor(found).reshape(-1)


def fidelity(images: Tensor, originals: Tensor) -> Tensor:
    """Visual information fidelity (Sheikh & Bovik 2006) of each image (n,); 1 is perfect, NaN below 41 pixels.

    A model of the eye that needs no trained network, which LPIPS and DISTS would have to download.
    """
    from torchmetrics.functional.image import visual_information_fidelity

    if min(images.shape[2:]) < LEAST_SIDE:
        return torch.full((len(images),), torch.nan)
    each = zip(images.split(1), originals.split(1), strict=True)
    return torch.stack([visual_information_fidelity(image * 255, original * 255) for image, original in each])
