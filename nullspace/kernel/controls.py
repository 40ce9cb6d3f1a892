"""Controls for noise from the kernel of the patch embedding: of its norm, but seen by the model.

Norms are taken in normalised units, pixels over `PatchKernel.std`, as the model is given them. Each image has a
generator of its own (CPU), so that its control does not depend on the others in its batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.metrics.controls import in_random_order


def permuted(noise: Tensor, kernel: PatchKernel, generators: Sequence[torch.Generator]) -> Tensor:
    """Noise (n,N,3p²) in pixel units with the elements of each image, over `std`, in random order."""
    rows = [in_random_order(row, source) for row, source in zip(noise / kernel.std, generators, strict=True)]
    return torch.stack(rows) * kernel.std


def gaussian(noise: Tensor, kernel: PatchKernel, generators: Sequence[torch.Generator]) -> Tensor:
    """Independent normal noise shaped like `noise` (n,N,3p²) in pixel units, of the norm of each image of it."""
    rows = zip(noise, generators, strict=True)
    drawn = torch.stack([torch.randn(row.shape, generator=source, dtype=row.dtype) for row, source in rows])
    norms = (noise / kernel.std).flatten(1).norm(dim=1)
    return drawn * (norms / drawn.flatten(1).norm(dim=1))[:, None, None] * kernel.std
