"""Exactly: the picture nearest to a wanted look that the model cannot distinguish from the image at all.

It differs by something in the kernel of the patch embedding that leaves every pixel in [0,1]. Trained patch embeddings
read low frequencies, by which people recognise things: a picture made so still shows the image, see `docs/fooling.md`.
The share of its difference that lies in the kernel says how near a look can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.model.images import from_uint8
from nullspace.model.preprocessing import check_images
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT
from nullspace.pixels.eight_bits import EightBits
from nullspace.pixels.projection import project_to_box

ITERATIONS = 200  # of the projection into kernel and box; what is left outside the kernel, rounding takes out
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class ExactLooks:
    """Pictures `saved` (B,3,H,W) uint8 with the tokens of their images up to rounding to 8 bits.

    `reached` (B,) is the share of the squared distance between image and look that they cover; `possible` (B,) is the
    share that lies in the kernel, which could be covered without a pixel range.
    """

    saved: Tensor
    reached: Tensor
    possible: Tensor


@torch.no_grad()
def nearest_look(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    looks: Float[Tensor, "B 3 H W"],
    kernel: PatchKernel,
    *,
    eight_bits: EightBits | None = None,
) -> ExactLooks:
    """The pictures nearest to `looks` that `model` cannot distinguish from `images`, both (B,3,H,W) in [0,1].

    `kernel` is that of the model, and `eight_bits` rounds in it (made when not given; make it once for many batches).
    How far tokens and logits moved in the end, `certify` measures. Raises NullspaceError, ImageRangeError.
    """
    if images.shape != looks.shape:
        raise NullspaceError(
            f"expected a look for every image, of one shape, got {tuple(images.shape)} and {tuple(looks.shape)}"
        )
    check_images(images, model.preprocessing.input_size, check_range=True)
    check_images(looks, model.preprocessing.input_size, check_range=True)
    patches, wanted = (model.patchify(each.detach().float()) for each in (images, looks))
    found = project_to_box(patches, wanted - patches, kernel, iterations=ITERATIONS)
    pictures = model.unpatchify(patches + found.delta).clamp(0, 1)
    rounding = EightBits.of(model, kernel) if eight_bits is None else eight_bits
    saved = rounding.save(images.detach().float(), pictures)
    left = (from_uint8(saved) - looks).square().sum(dim=(1, 2, 3))
    apart = (images - looks).square().sum(dim=(1, 2, 3))
    return ExactLooks(saved, 1 - left / apart.clamp_min(_TINY), kernel_share(wanted - patches, kernel))


def kernel_share(changes: Float[Tensor, "B N pixels"], kernel: PatchKernel) -> Tensor:
    """Share (B,) of the squared norm of changes of patches (B,N,3p²) that lies in the kernel: unseen by the model."""
    rows = kernel.row_space.to(changes)
    whole = changes.square().sum(dim=(1, 2))
    return 1 - (changes @ rows).square().sum(dim=(1, 2)) / whole.clamp_min(_TINY)
