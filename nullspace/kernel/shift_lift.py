"""The shift in pixels: the smallest change of a patch that adds the same number to all entries of its token.

Where a model ignores shifts of its tokens, this one direction per patch is invisible although A sees it. A square patch
embedding of full rank has no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import scaled_weight
from nullspace.model.vit import SplitViT


@dataclass(frozen=True, eq=False)
class ShiftLift:
    """`patch` (3p²,) float64 with A·patch = (1,…,1), of minimal norm, in pixel units.

    `residual` is the largest entry of |A·patch - 1|; `rank` that of A; `tolerance` what rounding can leave of it.
    """

    patch: Tensor
    residual: float
    tolerance: float
    rank: int

    @property
    def norm(self) -> float:
        """Euclidean norm in pixel units of the change that shifts a token by 1."""
        return float(self.patch.norm())

    def to_dict(self) -> dict[str, Any]:
        """The evidence as plain JSON values."""
        return {"norm": self.norm, "residual": self.residual, "tolerance": self.tolerance, "rank": self.rank}


def shift_lift(model: SplitViT, *, rtol: float | None = None) -> ShiftLift:
    """`shift_lift_of` a model's patch embedding. Invisible only where `projection_shift_test` finds shifts ignored."""
    return shift_lift_of(model.patch_projection.weight, model.preprocessing.std, rtol=rtol)


def shift_lift_of(weight: Tensor, std: tuple[float, ...] | Tensor, *, rtol: float | None = None) -> ShiftLift:
    """The minimal-norm solution of A·patch = (1,…,1), A = W·diag(1/std) as in `kernel_of`, with `rtol` as there.

    Equivalent to scipy.linalg.pinv(A) @ ones(D). Raises NullspaceError when (1,…,1) is not in the range of A: no patch
    then shifts the token.
    """
    matrix, _ = scaled_weight(weight, std)
    eps = torch.finfo(torch.float64).eps
    rtol = max(matrix.shape) * eps if rtol is None else rtol
    left, sigma, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((sigma > rtol * sigma[0]).sum())
    ones = torch.ones(len(matrix), dtype=torch.float64)
    patch = right[:rank].T @ ((left[:, :rank].T @ ones) / sigma[:rank])
    residual = float((matrix @ patch - ones).abs().max())
    # What a backward stable solver leaves at worst: eps times the sizes that were added up.
    tolerance = max(matrix.shape) * eps * (1 + float(sigma[0] * patch.norm()))
    if not residual <= tolerance:
        raise NullspaceError(
            f"expected (1,…,1) in the range of the patch embedding, got a residual of {residual:.2g} at rank {rank} of "
            f"{len(matrix)}: no change of a patch shifts all {len(matrix)} entries of its token alike; use the plain "
            "kernel (patch_kernel) of this model"
        )
    return ShiftLift(patch=patch, residual=residual, tolerance=tolerance, rank=rank)
