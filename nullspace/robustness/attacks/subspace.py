"""Changes confined to a subspace of patches: the kernel of the patch embedding, or all that is orthogonal to it.

In the kernel every attack must fail, as the model does not see its changes; in the row space it loses nothing that the
model sees, only room: signs of a gradient do not lie in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.model.vit import SplitViT
from nullspace.pixels.solvers.dual_ascent import Box, project
from nullspace.robustness.attacks.norm import NormName, column, shrunk

_ITERATIONS, _RESIDUAL = 200, 1e-5  # residual: norm of what may be left of a patch outside the subspace, pixel units
_ROUNDING = 2.0**-24


@dataclass(frozen=True, eq=False)
class Subspace:
    """Changes whose patches are orthogonal to `barred` (3p²,r), an orthonormal basis, in patches of `model`."""

    model: SplitViT
    barred: Tensor

    @classmethod
    def kernel(cls, model: SplitViT, kernel: PatchKernel) -> Subspace:
        """What the model does not see. Raises NullspaceError when that is nothing."""
        if kernel.is_trivial:
            raise NullspaceError(
                f"the kernel of {model.name} is zero: no attack can be confined to it; choose a model with a kernel"
            )
        return cls(model, kernel.row_space)

    @classmethod
    def row_space(cls, model: SplitViT, kernel: PatchKernel) -> Subspace:
        """What the model sees."""
        return cls(model, kernel.basis())

    def project(self, change: Tensor) -> Tensor:
        """The nearest changes (n,3,H,W) in the subspace."""
        patches = self.model.patchify(change)
        barred = self.barred.to(patches)
        return self.model.unpatchify(patches - (patches @ barred) @ barred.T)

    def within(self, images: Tensor, change: Tensor, norm: NormName, radius: Tensor) -> Tensor:
        """Images (n,3,H,W) with changes in the subspace, of norm `radius` (n,) or less, and every pixel in [0,1].

        The nearest for Linf. For L2 the nearest in subspace and range, shortened, which leaves it in both.
        """
        reach = column((radius - _ROUNDING).clamp_min(0)).to(images) if norm == "linf" else torch.ones_like(images)
        low, high = (self.model.patchify(each).flatten(0, 1) for each in ((images - reach), (images + reach)))
        patches, wanted = (self.model.patchify(each) for each in (images, change))
        box = Box(low.clamp_min(0), high.clamp_max(1))
        flat, barred = patches.flatten(0, 1), self.barred.to(patches)
        found = project(
            flat, wanted.flatten(0, 1), box, barred, iterations=_ITERATIONS, tolerance=_RESIDUAL
        ).pixels.view_as(patches)
        pictures = self.model.unpatchify(found)
        if norm == "linf":
            return pictures
        room = _ROUNDING * images[0].numel() ** 0.5
        return (images + shrunk(pictures - images, norm, (radius - room).clamp_min(0))).clamp(0, 1)
