"""The subspace of a kernel that JPEG maps into the kernel: its subsampling of chroma is accounted for.

JPEG keeps every second sample of the two chroma planes (4:2:0) and interpolates between them. That is linear: a change
d becomes T d, which keeps little of the fine colours of a visible mark. Where A d = 0 but A T d is not, the model sees
the mark once the picture is a JPEG. Here A (d - T d) = 0 is required too. The error of JPEG's quantisation cannot be
removed by a linear map; it is far smaller at usual qualities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.model.shapes import Float
from nullspace.pixels.lift import patch_map

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel
    from nullspace.model.vit import SplitViT

# JFIF: luma, and blue and red less luma (ITU-R BT.601)
_PLANES = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_MOST = 0.5  # share of a kernel that is removed at most: the directions that JPEG moves most
_ZERO = 1e-9  # of the largest singular value


def jpeg_kernel(model: SplitViT, kernel: PatchKernel) -> PatchKernel:
    """The directions of `kernel` that are still in it after JPEG's 4:2:0; `rank` counts the removed ones too.

    At most half of the kernel is removed, and nothing of a kernel of dimension 1. With patches of an odd size, across
    whose edges JPEG averages, it is the whole kernel.
    """
    removable = int(_MOST * kernel.nullity)
    if not removable or any(side % 2 for side in model.patch_size):
        return kernel
    matrix = patch_map(model, modulo_shift=kernel.modulo_shift, rtol=kernel.rtol).matrix
    basis = kernel.basis()
    changes = basis.T.reshape(-1, 3, *model.patch_size)
    lost = (changes - subsampled(changes)).flatten(1) @ matrix.T  # (nullity,D)
    left, sigma, _ = torch.linalg.svd(lost, full_matrices=False)
    count = min(removable, int((sigma > _ZERO * float(torch.linalg.matrix_norm(matrix, 2))).sum()))
    rows = torch.cat([kernel.row_space.cpu(), basis @ left[:, :count]], dim=1)
    return replace(
        kernel, rank=kernel.rank + count, nullity=kernel.nullity - count, row_space=rows.to(kernel.row_space)
    )


def subsampled(changes: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """T: changes (n,3,h,w) of even size after JPEG 4:2:0 without quantisation; edges are repeated.

    libjpeg's: chroma is the mean of 2×2 pixels, and comes back by a triangle filter ("fancy upsampling").
    """
    planes = torch.tensor(_PLANES, dtype=changes.dtype, device=changes.device)
    luma_chroma = torch.einsum("ij,njhw->nihw", planes, changes)
    chroma = functional.avg_pool2d(luma_chroma[:, 1:], 2)
    smooth = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(planes), torch.cat([luma_chroma[:, :1], smooth], dim=1))
