"""Visible marks: a logo or text that people see and the model cannot, because it lies in the kernel of its patches.

The plainly marked image is the yardstick. The change towards it is projected onto kernel ∩ pixel box, patch by patch;
as that leaves little of smooth light marks, the mark is also carried by hues and stripes that do pass (`carrier`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.pixels import check_unit_range, project_to_box
from nullspace.watermark.carrier import choose_carrier, kept_less
from nullspace.watermark.jpeg import jpeg_kernel

if TYPE_CHECKING:
    from nullspace.kernel import PatchKernel
    from nullspace.vit import SplitViT


@dataclass(frozen=True)
class VisibleMark:
    """Marked images (B,3,H,W) in [0,1], and how exactly the model is spared."""

    marked: Tensor
    plain: Tensor  # (B,3,H,W) the ordinary mark, which the model does see
    residual: Tensor  # (B,) |change of the tokens| / |tokens| as the model computes them; float32 alone leaves 1e-7
    converged: bool  # whether every patch came within the tolerance of the kernel
    hue: str
    period: int
    gain: float  # share of the carrier's energy in the kernel: how much of it could be kept


def blend(images: Tensor, mark: Tensor, alpha: Tensor) -> Tensor:
    """Images (B,3,H,W) under `mark` (3,H,W) with opacity `alpha` (H,W), all in [0,1]: the ordinary visible mark."""
    _check(images, mark, alpha)
    mark, alpha = mark.to(images), alpha.to(images)
    return (images + alpha * (mark - images)).clamp(0, 1)  # rounding may leave 1 + 1e-7


@torch.no_grad()
def embed(
    model: SplitViT,
    kernel: PatchKernel,
    images: Tensor,
    mark: Tensor,
    alpha: Tensor,
    *,
    strength: float = 1.0,
    within: PatchKernel | None = None,
    iterations: int = 2000,
    tolerance: float = 1e-5,
) -> VisibleMark:
    """Put `mark` (3,H,W), opacity `alpha` (H,W), on images (B,3,H,W) in [0,1] by a change that the model cannot see.

    Wanted is (plain - images) + strength * carrier; what comes out is the closest change to that in kernel ∩ pixel box.
    `strength` 0 is the nearest to the plain mark in square error, but faint to the eye. Where a pixel is saturated
    there is no room: a mark on pure white or black stays faint whatever the strength.

    The change stays `within` a part of the kernel, by default `jpeg_kernel(model, kernel)`: it is then still in the
    kernel when JPEG has thinned out its colours. The carrier is laid on so much stronger that as much of it is left.

    Raises NullspaceError when the kernel is trivial or belongs to another patch size, on shapes that differ, or an
    empty mark; ImageRangeError outside [0,1].
    """
    _check_kernel(model, kernel)
    plain = blend(images, mark, alpha)
    if not 0 <= strength < float("inf"):
        raise NullspaceError(f"expected a finite strength >= 0 (1 is normal), got {strength}")
    within = within or jpeg_kernel(model, kernel)
    carrier = choose_carrier(model, within, mark.to(images), alpha.to(images))
    strength *= kept_less(model, kernel, carrier)
    patches = model.patchify(images)
    wanted = model.patchify(plain - images + strength * carrier.pattern)
    projection = project_to_box(patches, wanted, within, iterations=iterations, tolerance=tolerance)
    marked = model.unpatchify(patches + projection.delta).clamp(0, 1)
    residual = token_residual(model, images, marked)
    return VisibleMark(marked, plain, residual, projection.converged, carrier.hue, carrier.period, carrier.gain)


@torch.no_grad()
def token_residual(model: SplitViT, images: Tensor, changed: Tensor) -> Tensor:
    """(B,) norm of the change of all tokens over the norm of the tokens, for two versions (B,3,H,W) of images.

    Also tells what 8-bit rounding does to a mark that was exact in float.
    """
    before, after = model.tokens(images).float(), model.tokens(changed).float()
    change = torch.linalg.vector_norm((after - before).flatten(1), dim=1)
    return change / torch.linalg.vector_norm(before.flatten(1), dim=1)


def _check_kernel(model: SplitViT, kernel: PatchKernel) -> None:
    if kernel.is_trivial:
        raise NullspaceError(
            f"the patch embedding of {model.name} maps {kernel.patch_dim} numbers to {kernel.embed_dim} with rank "
            f"{kernel.rank}: its kernel is zero, so every visible mark changes the tokens; choose a model with larger "
            "patches or a smaller embedding, e.g. deit_tiny_patch16_224"
        )
    height, width = model.patch_size
    if kernel.patch_dim != 3 * height * width:
        raise NullspaceError(
            f"expected the kernel of {model.name}, of patch_dim {3 * height * width}, got one of {kernel.patch_dim}; "
            "make it with patch_kernel(model)"
        )


def _check(images: Tensor, mark: Tensor, alpha: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise NullspaceError(f"expected float images (B,3,H,W), got {images.dtype} of shape {tuple(images.shape)}")
    size = tuple(images.shape[2:])
    if tuple(mark.shape) != (3, *size) or tuple(alpha.shape) != size:
        raise NullspaceError(
            f"expected mark (3,{size[0]},{size[1]}) and alpha ({size[0]},{size[1]}) of the images' size, got "
            f"{tuple(mark.shape)} and {tuple(alpha.shape)}; shrink or pad the mark first, with opacity 0 around it"
        )
    for values in (images, mark, alpha):
        check_unit_range(values)
    if not bool((alpha > 0).any()):
        raise NullspaceError("expected a mark with some opacity, got alpha = 0 everywhere: nothing would be marked")
