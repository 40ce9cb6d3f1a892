"""Hidden messages on the user's own file: through the model's resizing and cropping, at the file's own size.

The sites are read after preprocessing. C = (row space and sites) ∘ patchify ∘ crop ∘ resize maps a change of the file
to what the model and the reader see of it. The smallest change that moves the sites and nothing else is sought: Cᵀy
with (CCᵀ + damping)y = target, by conjugate gradients. Pixels that may not change, or would leave [0,1], are removed
from C, and the others compensate for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.patches import patchify, unpatchify
from nullspace.model.resize import Resize, resize_of
from nullspace.model.shapes import Bool, UInt8
from nullspace.pixels.solvers.smallest import smallest_change
from nullspace.watermark.payload.hidden_mark import HiddenMark

_ROUNDS = 3  # solves, each without the pixels that left their range in the one before
_OPEN = 0.8  # share of a patch that must be free: moving the sites of others would use up the energy of all the rest
_DAMPING = 1e-3  # of the mean curvature
_SLACK = 1.01  # 0.04 dB
_ITERATIONS, _TOLERANCE = 150, 1e-5  # the tolerance is relative to the target


@dataclass(frozen=True, eq=False)
class MarkedFile:
    """The file's pixels (3,H,W) uint8 with the message, and its `psnr` in dB over the whole file.

    `reached` is the share of the wanted movement of the sites that is achieved; below 1 where pixels may not change
    and where the preprocessing enlarges the file, so that not every change of the model's pixels can be made.
    """

    pixels: UInt8[Tensor, "3 H W"]
    psnr: float
    reached: float


@torch.no_grad()
def embed_on_file(
    mark: HiddenMark,
    file: UInt8[Tensor, "3 H W"],
    seen: UInt8[Tensor, "3 h w"],
    message: bytes,
    *,
    psnr: float = 42,
    free: Bool[Tensor, "H W"] | None = None,
    save: Callable[[Resize, Tensor], Tensor] | None = None,
) -> MarkedFile:
    """Embed a message in a file (3,H,W) uint8, which the preprocessing turns into `seen` (3,h,w) uint8.

    `free` (H,W) marks the pixels that may change, by default all. `psnr` holds for the model's pixels and for the whole
    file. `save` rounds the changed pixels (3,H,W) in [0,1] to 8 bits, to the nearest levels by default; see
    `eight_bits_on_file`. Raises NullspaceError for preprocessing that is not linear.
    """
    resize = resize_of(mark.model.preprocessing, (file.shape[1], file.shape[2]))
    if tuple(seen.shape[1:]) != resize.input_size:
        raise NullspaceError(f"expected what the model sees, (3,{resize.input_size}), got {tuple(seen.shape)}")
    clean = from_uint8(file)
    wanted = mark.wanted_change(seen[None], message, psnr=psnr)[0]  # (N,3p²)
    view = _View(resize, mark, torch.ones_like(clean[:1]) if free is None else free.to(clean)[None])
    target = wanted @ view.basis
    change = torch.zeros_like(clean)
    for _ in range(_ROUNDS):
        reachable = target * view.open_patches()[:, None]
        change = view.smallest(reachable - view.seen(change, masked=False), start=change)
        change *= min(1.0, _largest(psnr, change) / max(float(change.norm()), 1e-12))
        outside = (clean + change < 0) | (clean + change > 1)
        change = (clean + change).clamp(0, 1) - clean
        if not bool(outside.any()):
            break
        view = view.without(outside)
    pixels = _saved(resize, clean, change, psnr, save)
    made = view.seen(from_uint8(pixels) - clean, masked=False)
    mse = float((from_uint8(pixels) - clean).square().mean())
    size = float(target.square().sum())
    reached = float((made * target).sum()) / size if size else 1.0
    return MarkedFile(pixels, -10 * math.log10(mse) if mse else math.inf, reached)


def _saved(
    resize: Resize, clean: Tensor, change: Tensor, psnr: float, save: Callable[[Resize, Tensor], Tensor] | None
) -> Tensor:
    """8-bit pixels with the change; rounded again with a smaller change where rounding broke the PSNR."""
    if save is None:
        return round_to_uint8((clean + change).clamp(0, 1))
    pixels = save(resize, (clean + change).clamp(0, 1))
    allowed, size = 10 ** (-psnr / 10), float(change.square().mean())
    mse = float((from_uint8(pixels) - clean).square().mean())
    if mse <= allowed * _SLACK or not size:
        return pixels
    smaller = math.sqrt(max(size + allowed - mse, 0.0) / size)
    return save(resize, (clean + smaller * change).clamp(0, 1))


def _largest(psnr: float, change: Tensor) -> float:
    """Norm of the largest change a PSNR allows, less the error of rounding."""
    rounding = 1 / 12 / 255**2
    return math.sqrt(change.numel() * max(10 ** (-psnr / 10) - rounding, 0.0))


@dataclass(frozen=True, eq=False)
class _View:
    """C for one file: `mask` (1 or 3,H,W) is 1 where pixels may change."""

    resize: Resize
    mark: HiddenMark
    mask: Tensor

    @property
    def basis(self) -> Tensor:
        return self.mark.seen_basis

    def without(self, pixels: Tensor) -> _View:
        return _View(self.resize, self.mark, self.mask * ~pixels)

    def seen(self, change: Tensor, *, masked: bool = True) -> Tensor:
        """C · change: (3,H,W) to (N,r)."""
        moved = change * self.mask if masked else change
        return patchify(self.resize.apply(moved)[None], self.mark.model.patch_size)[0] @ self.basis

    def adjoint(self, coordinates: Tensor) -> Tensor:
        """Cᵀ · coordinates: (N,r) to (3,H,W)."""
        patches = (coordinates @ self.basis.T)[None]
        return self.resize.adjoint(unpatchify(patches, self.mark.model.patch_size, self.mark.model.grid)[0]) * self.mask

    def open_patches(self) -> Tensor:
        """1 for patches (N,) that are free enough to embed in, else 0."""
        free = self.resize.apply(self.mask.mean(dim=0, keepdim=True).expand(3, *self.resize.file_size))
        return (patchify(free[None], self.mark.model.patch_size)[0].mean(dim=-1) > _OPEN).to(free)

    def smallest(self, target: Tensor, *, start: Tensor) -> Tensor:
        """`start` and the smallest further change whose image under C is `target`."""
        limits = {"damping": _DAMPING, "iterations": _ITERATIONS, "tolerance": _TOLERANCE}
        return start + smallest_change(self.seen, self.adjoint, target, **limits)
