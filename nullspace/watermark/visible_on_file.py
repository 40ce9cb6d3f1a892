"""Visible marks on the user's own file: what people see of them, the model's own resizing takes away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.file_kernel import FileKernel, kernel_on_file
from nullspace.pixels import from_uint8, round_to_uint8
from nullspace.vit import SplitViT
from nullspace.watermark.carrier import LUMA, choose_carrier, pattern
from nullspace.watermark.visible import blend


@dataclass(frozen=True, eq=False)
class VisibleFile:
    """8-bit `pixels` (3,H,W) with the mark, and `plain` (3,H,W) in [0,1] with the ordinary one.

    `luma_contrast` and `colour_contrast` are the root mean square change of brightness and of colour where the mark
    lies, over the pixel range: how much there is to see.
    """

    pixels: Tensor
    plain: Tensor
    luma_contrast: float
    colour_contrast: float
    hue: str
    converged: bool


@torch.no_grad()
def embed_visible_on_file(
    model: SplitViT,
    file: Tensor,
    mark: Tensor,
    alpha: Tensor,
    *,
    strength: float = 1.0,
    iterations: int = 200,
    kernel: FileKernel | None = None,
    save: Callable[[FileKernel, Tensor], Tensor] | None = None,
) -> VisibleFile:
    """Put `mark` (3,H,W) in [0,1] of opacity `alpha` (H,W) on a file (3,H,W) uint8 so that the model does not see it.

    The look is chosen as the model would get the mark, stripes are widened to the file's scale, and the change is the
    nearest one in the kernel through the resize that keeps the pixels in range. `save` rounds the changed pixels
    (3,H,W) in [0,1] to 8 bits, to the nearest levels by default; see `eight_bits_on_file`. Raises NullspaceError for
    preprocessing that is not linear and for a model whose kernel is zero.
    """
    kernel = kernel or kernel_on_file(model, (file.shape[1], file.shape[2]))
    if kernel.kernel.is_trivial:
        raise NullspaceError(
            f"the patch embedding of {model.name} has no kernel: it sees every mark; choose a model with a smaller "
            "embedding, e.g. deit_tiny_patch16_224, or give exact_kernel, which adds the shift where it is ignored"
        )
    clean = from_uint8(file)
    plain = blend(clean[None], mark, alpha)[0]
    seen_alpha = kernel.resize.apply(alpha).clamp(0, 1)
    seen_mark = kernel.resize.apply(mark * alpha) / seen_alpha.clamp_min(1e-3)
    if not bool((seen_alpha > 0.05).any()):
        raise NullspaceError("the mark lies where the model's crop cuts off; put it nearer to the middle, or larger")
    look = choose_carrier(model, kernel.kernel, seen_mark.clamp(0, 1), seen_alpha)
    scale = 1 / _shrinkage(kernel)
    carried = pattern(mark, alpha, look.hue, max(2, round(look.period * scale)), model.patch_size[0] * scale)
    wanted = plain - clean + strength * carried
    made = kernel.project_to_box(clean[None], wanted[None].double(), iterations=iterations)
    marked = (clean.double() + made.delta[0]).clamp(0, 1)
    pixels = round_to_uint8(marked) if save is None else save(kernel, marked)
    contrast = _contrast(from_uint8(pixels) - clean, alpha)
    return VisibleFile(pixels, plain, *contrast, look.hue, bool(made.converged.all()))


def _shrinkage(kernel: FileKernel) -> float:
    """Model pixels per pixel of the file, along the rows."""
    read = kernel.resize.read.any(dim=1).sum()
    return kernel.resize.input_size[0] / float(read)


def _contrast(change: Tensor, alpha: Tensor) -> tuple[float, float]:
    """Root mean square change of brightness, and of what is left of the colours, weighted by opacity."""
    luma = (change * torch.tensor(LUMA)[:, None, None]).sum(dim=0)
    colour = (change - luma).square().mean(dim=0)
    weight = alpha / alpha.sum()
    return float((luma.square() * weight).sum().sqrt()), float((colour * weight).sum().sqrt())
