"""Visible marks on the user's own file, in the kernel of the model's resizing and patch embedding together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.file_kernel import FileChange, FileKernel, kernel_on_file
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.patches import patchify, unpatchify
from nullspace.model.shapes import Float, UInt8
from nullspace.model.vit import SplitViT
from nullspace.watermark.visible.texture import allowed_room, grow_texture
from nullspace.watermark.visible.visible import check_mark, shown

_STEPS = (30, 30, 30)  # iterations of each projection; more than two steps gain little on a file
_GREY_FROM = 2  # pixels of the file for each equation of a patch: then a grey texture is nearly as strong as any


@dataclass(frozen=True, eq=False)
class VisibleFile:
    """8-bit `pixels` (3,H,W) with the mark, and whether the change came within the tolerance of the kernel."""

    pixels: UInt8[Tensor, "3 H W"]
    converged: bool


@torch.no_grad()
def embed_visible_on_file(
    model: SplitViT,
    file: UInt8[Tensor, "3 H W"],
    mark: Float[Tensor, "3 H W"],
    alpha: Float[Tensor, "H W"],
    *,
    iterations: int = 200,
    kernel: FileKernel | None = None,
    save: Callable[[FileKernel, Tensor], Tensor] | None = None,
) -> VisibleFile:
    """Put `mark` (3,H,W) in [0,1] of opacity `alpha` (H,W) on a file (3,H,W) uint8 so that the model does not see it.

    The mark is texture as in `visible.embed`, in the kernel through the resize, of squares as large as the model's
    pixels. On files with at least twice as many pixels as equations it is grey: JPEG, which subsamples colours, then
    moves tokens a fifth as far (deit_tiny, 500×375). `save` rounds the changed pixels (3,H,W) in [0,1] to 8 bits, to
    the nearest levels by default; see `eight_bits_on_file`. Raises NullspaceError for preprocessing that is not linear,
    for a model whose kernel is zero, and for a mark that lies outside the model's crop.
    """
    kernel = kernel or kernel_on_file(model, (file.shape[1], file.shape[2]))
    kernel = replace(kernel, grey=_pixels_per_patch(kernel) >= _GREY_FROM * kernel.kernel.rank)
    if kernel.kernel.is_trivial:
        raise NullspaceError(
            f"the patch embedding of {model.name} has no kernel: it sees every mark; choose a model with a smaller "
            "embedding, e.g. deit_tiny_patch16_224, or give exact_kernel, which adds the shift where it is ignored"
        )
    clean = from_uint8(file).double()
    check_mark(clean[None], mark, alpha)
    mask = shown(mark, alpha).double()
    near = _near(kernel, mask)
    if not bool(near.any()):
        raise NullspaceError("the mark lies outside the model's crop; put it nearer to the middle, or larger")
    room = allowed_room(mask, near)

    def project(wanted: Tensor, count: int) -> FileChange:
        return kernel.project_to_box(clean[None], wanted.expand(1, *clean.shape), room=room, iterations=count)

    unit = max(1, round(1 / _shrinkage(kernel)))
    window = max(1, round(model.patch_size[0] / _shrinkage(kernel)))
    change = grow_texture(
        clean[None],
        mask,
        lambda wanted, count: project(wanted, count).delta,
        steps=_STEPS,
        window=window,
        unit=unit,
        unread=~kernel.resize.read,
    )
    exact = project(change, iterations)
    marked = (clean + exact.delta[0]).clamp(0, 1)
    pixels = round_to_uint8(marked) if save is None else save(kernel, marked)
    return VisibleFile(pixels, bool(exact.converged.all()))


def _near(kernel: FileKernel, mask: Tensor) -> Tensor:
    """Mask (H,W) of the pixels of the file that contribute to a patch that the mark's mask (H,W) touches."""
    view = kernel.resize.apply(mask).abs().expand(1, 3, -1, -1)
    touched = (patchify(view, kernel.patch_size).amax(dim=-1, keepdim=True) > 1e-3).double()
    patches = unpatchify(touched.expand(-1, -1, kernel.kernel.patch_dim), kernel.patch_size, kernel.grid)
    rows, columns = (part.abs().to(mask) for part in (kernel.resize.rows, kernel.resize.columns))
    return (rows.T @ patches[0, 0] @ columns) > 0


def _pixels_per_patch(kernel: FileKernel) -> float:
    """Pixels of the file that the model reads, per patch."""
    return float(kernel.resize.read.sum()) / math.prod(kernel.grid)


def _shrinkage(kernel: FileKernel) -> float:
    """Model pixels per pixel of the file, along the rows."""
    read = kernel.resize.read.any(dim=1).sum()
    return kernel.resize.input_size[0] / float(read)
