"""Controls for noise from the kernel of the patch embedding: of its norm, but seen by the model.

Norms are taken in normalised units, pixels over `PatchKernel.std`, as the model is given them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.metrics.draws import Draws


def permuted(noise: Tensor, kernel: PatchKernel, draws: Draws) -> Tensor:
    """Noise (n,N,3p²) in pixel units with the elements of each image, over `std`, in random order."""
    std = kernel.std.to(noise)
    return draws.shuffled(noise / std).mul_(std)


def gaussian(noise: Tensor, kernel: PatchKernel, draws: Draws) -> Tensor:
    """Independent normal noise shaped like `noise` (n,N,3p²) in pixel units, of the norm of each image of it."""
    std = kernel.std.to(noise)
    drawn = draws.to(noise.device).normal(*noise.shape[1:]).to(noise)
    size = (noise.square() @ std.pow(-2)).sum(dim=1).sqrt()
    ratio = size / torch.linalg.vector_norm(drawn.flatten(1), dim=1)
    return drawn.mul_(ratio[:, None, None] * std)
