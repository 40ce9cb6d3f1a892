"""8 bits: a picture one can save, whose tokens stay where those of the clean picture are.

A change in the kernel is exact in float; rounded to the nearest levels it moves every token by |A|_F / (255 sqrt(12)),
half a per cent of a token's norm on deit_tiny, which decides close calls. Here pixels are rounded so that A (z/255 - x)
vanishes for the clean x itself, not for the changed picture: what a projection into the pixel box left over goes too.
Babai's nearest plane as `round_quickly` has it, for the patches of all pictures of a batch at once, then single flips
in those patches where saturated pixels could take up too little. About 15 ms of one core for an image of deit_tiny.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.images import check_unit_range
from nullspace.model.shapes import Float, UInt8
from nullspace.pixels.lift import patch_map
from nullspace.pixels.rounding import RoundingPlan, flipped, rounded_quickly, rounding_plan

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel
    from nullspace.model.vit import SplitViT

DAMPING = 3e-4  # of sigma_max²: with moves of 2 levels the worst patch is best, the mean 8 % above that of 1e-4
MAX_MOVE = 2.0  # grey levels
_FLIPPED_ABOVE = 1.1  # of the error that rounding leaves where nothing is saturated


@dataclass(frozen=True, eq=False)
class EightBits:
    """Rounds changed pictures of one model to 8 bits; `of` makes it once for many pictures."""

    model: SplitViT
    plan: RoundingPlan

    @classmethod
    def of(cls, model: SplitViT, kernel: PatchKernel) -> EightBits:
        """For changes in `kernel`; modulo the shift, if it is so, tokens may move along (1,…,1) here too."""
        mapping = patch_map(model, modulo_shift=kernel.modulo_shift, rtol=kernel.rtol)
        return cls(model, rounding_plan(mapping, damping=DAMPING))

    @property
    def expected(self) -> float:
        """Root mean square |A (z/255 - x)| of a patch with room in every pixel, in token units."""
        last = self.plan.feedback.diagonal()[self.plan.spare :]
        return float((last**-2 / 12).sum().sqrt()) / 255

    @torch.no_grad()
    def save(self, images: Float[Tensor, "B 3 H W"], changed: Float[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B 3 H W"]:
        """8-bit pictures (B,3,H,W) uint8 of `changed`, at most 2 levels from it, with the tokens of `images`.

        Both float in [0,1]. `token_changes` gives how far the tokens still are. Raises ImageRangeError outside [0,1],
        NullspaceError when the shapes differ.
        """
        if images.shape != changed.shape:
            raise NullspaceError(
                f"expected pictures of one shape, got {tuple(images.shape)} and {tuple(changed.shape)}"
            )
        check_unit_range(images)
        check_unit_range(changed)
        clean, wanted = (self.model.patchify(each.float()) for each in (images, changed))
        rounded = self._rounded(clean.flatten(0, 1), wanted.flatten(0, 1)).view(wanted.shape)
        return self.model.unpatchify(rounded) if len(images) else changed.to(torch.uint8)

    def _rounded(self, clean: Tensor, wanted: Tensor) -> Tensor:
        """Patches (P,3p²) of any number of pictures."""
        rows = self.plan.mapping.right.to(wanted)
        target = 255 * (wanted - ((wanted - clean) @ rows) @ rows.T)
        levels = 255 * wanted
        low, high = (levels - MAX_MOVE).ceil().clamp_min(0), (levels + MAX_MOVE).floor().clamp_max(255)
        answer = rounded_quickly(target, low, high, self.plan)
        matrix = self.plan.mapping.matrix.T.to(wanted)
        error = torch.linalg.vector_norm((answer / 255 - clean) @ matrix, dim=-1)
        poor = (error > _FLIPPED_ABOVE * self.expected).nonzero().squeeze(-1)
        if len(poor):
            gram = self.plan.gram.to(wanted)
            answer[poor] = flipped(answer[poor], target[poor], low[poor], high[poor], gram)
        return answer.to(torch.uint8)
