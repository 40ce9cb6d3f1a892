"""Visible marks: a logo or text that people see and the model does not, as it lies in the kernel of its patches.

A mark is shown as texture (`texture`): inside it as strong as kernel ∩ pixel box allows, beside it nearly none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.images import check_unit_range
from nullspace.model.shapes import Float
from nullspace.pixels.projection import Projection, project_to_box
from nullspace.watermark.jpeg import jpeg_kernel
from nullspace.watermark.luma import luma
from nullspace.watermark.visible.texture import allowed_room, grow_texture

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel
    from nullspace.model.vit import SplitViT

_STEPS = (40, 40, 40, 40, 80)  # twice as many change the contrast by less than .01
_DARKEST = 1 / 8  # of the texture of a mark's lightest part


@dataclass(frozen=True)
class VisibleMark:
    """Marked images (B,3,H,W) in [0,1], and how close the change is to the kernel."""

    marked: Float[Tensor, "B 3 H W"]
    plain: Float[Tensor, "B 3 H W"]  # the ordinary mark, which the model sees
    residual: Float[
        Tensor, " B"
    ]  # |change of the tokens| / |tokens| as the model computes them; float32 alone leaves 1e-7
    converged: bool  # whether every patch came within the tolerance of the kernel


def blend(
    images: Float[Tensor, "B 3 H W"], mark: Float[Tensor, "3 H W"], alpha: Float[Tensor, "H W"]
) -> Float[Tensor, "B 3 H W"]:
    """Images (B,3,H,W) under `mark` (3,H,W) with opacity `alpha` (H,W), all in [0,1]: the ordinary visible mark."""
    check_mark(images, mark, alpha)
    mark, alpha = mark.to(images), alpha.to(images)
    return (images + alpha * (mark - images)).clamp(0, 1)  # rounding may leave 1 + 1e-7


@torch.no_grad()
def embed(
    model: SplitViT,
    kernel: PatchKernel,
    images: Float[Tensor, "B 3 H W"],
    mark: Float[Tensor, "3 H W"],
    alpha: Float[Tensor, "H W"],
    *,
    within: PatchKernel | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-5,
) -> VisibleMark:
    """Put `mark` (3,H,W), opacity `alpha` (H,W), on images (B,3,H,W) in [0,1] by a change that the model does not see.

    The mark is texture, as strong as possible; with opacity 1/2 pixels go half of the way to black and white at most.
    Where a picture is saturated there is no room: a mark on pure white or black stays faint.

    The change stays `within` a part of the kernel, by default `jpeg_kernel(model, kernel)`: it is then still in the
    kernel after JPEG has subsampled its colours.

    Raises NullspaceError when the kernel is trivial or belongs to another patch size, on shapes that differ, or an
    empty mark; ImageRangeError outside [0,1].
    """
    _check_kernel(model, kernel)
    plain = blend(images, mark, alpha)
    within = within or jpeg_kernel(model, kernel)
    exact = _texture(model, within, images, shown(mark, alpha).to(images), iterations, tolerance)
    marked = (images + exact[0]).clamp(0, 1)
    return VisibleMark(marked, plain, token_residual(model, images, marked), exact[1])


def _texture(
    model: SplitViT, kernel: PatchKernel, images: Tensor, mask: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, bool]:
    """The change (B,3,H,W) under `mask` (H,W), and whether it came within the tolerance of the kernel."""
    touched = _patches(model, mask).amax(dim=-1) > 0
    near = model.unpatchify(touched[None, :, None].expand(1, -1, kernel.patch_dim).float())[0, 0]
    patches = model.patchify(images)[:, touched]
    room = _patches(model, allowed_room(mask, near))[touched].expand_as(patches)

    def projected(wanted: Tensor, count: int, tolerance: float = 1e-3) -> Projection:
        return project_to_box(
            patches.to(wanted), wanted, kernel, room=room.to(wanted), iterations=count, tolerance=tolerance
        )

    def spread(change: Tensor) -> Tensor:
        whole = images.new_zeros(len(images), len(touched), kernel.patch_dim)
        whole[:, touched] = change.to(whole)
        return model.unpatchify(whole)

    def project(wanted: Tensor, count: int) -> Tensor:
        return spread(projected(model.patchify(wanted.expand_as(images))[:, touched], count).delta)

    change = grow_texture(images, mask, project, steps=_STEPS, window=model.patch_size[0])
    # Nearly all of the way in the pictures' own precision; what is left is a short way, for which float64 is cheap.
    near_exact = projected(model.patchify(change)[:, touched], iterations, tolerance).delta
    exact = projected(near_exact.double(), iterations, tolerance)
    return spread(exact.delta), exact.converged


def _patches(model: SplitViT, mask: Tensor) -> Tensor:
    """A mask (H,W) patch by patch, (N,3p²)."""
    return model.patchify(mask.expand(1, 3, -1, -1))[0]


def shown(mark: Float[Tensor, "3 H W"], alpha: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """(H,W) in [0,1]: amount of texture for each part of a mark (3,H,W) of opacity `alpha` (H,W).

    Light parts get all, dark ones an eighth, so that a drawing of several tones is not a silhouette; a mark of one
    tone gets all.
    """
    bright = luma(mark)
    there = bright[alpha > 0.1 * alpha.max()]
    low, high = there.min(), there.max()
    if float(high - low) < 0.1:
        return alpha
    return alpha * ((bright - low) / (high - low)).clamp(_DARKEST, 1)


@torch.no_grad()
def token_residual(
    model: SplitViT, images: Float[Tensor, "B 3 H W"], changed: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, " B"]:
    """(B,) norm of the change of all tokens over the norm of the tokens, for two versions (B,3,H,W) of images.

    Also the measure of what 8-bit rounding does to a mark that was exact in float.
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


def check_mark(images: Tensor, mark: Tensor, alpha: Tensor) -> None:
    """Raise NullspaceError on images (B,3,H,W), mark (3,H,W) and alpha (H,W) that do not fit, or an empty mark."""
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
