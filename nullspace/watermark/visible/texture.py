"""The most visible texture in kernel ∩ pixel box under a mask.

A patch embedding reads coarse brightness above all, so a plain white mark projected onto the kernel nearly vanishes.
What remains is texture: light and dark whose inner product with every row of the embedding is zero. The texture that is
seen best against this picture and in this kernel is optimised: the energy of brightness, at full and at half size, is a
convex function of the change, and it is maximised by projected gradient steps. Each goes to the point of kernel ∩ box
nearest to a multiple of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.model.shapes import Bool, Float
from nullspace.watermark.luma import LUMA, luma

# Beside the mask, within the patches that it touches, pixels may change by this share of their range: otherwise strokes
# with fewer values in a patch than the embedding has rows have no kernel. Projections then converge in tens of steps.
EDGE = 0.08
_PUSH = 1.5  # of the pixel range: length of a step; most pixels end at the boundary of the box
_FINE = 0.2  # weight of brightness at full size relative to half size: finer texture is lost in a thumbnail

Project = Callable[[Tensor, int], Tensor]


def grow_texture(
    like: Float[Tensor, "B 3 H W"],
    mask: Float[Tensor, "H W"],
    project: Project,
    *,
    steps: tuple[int, ...],
    window: int,
    unit: int = 1,
    unread: Bool[Tensor, "H W"] | None = None,
) -> Float[Tensor, "B 3 H W"]:
    """A change of pictures `like` (B,3,H,W), as strong under `mask` (H,W) as `project` allows.

    `mask` in [0,1] is the share of the way to black and to white that pixels may go there. `project(wanted, n)` gives
    the nearest allowed change, after n iterations at most; `steps` has n for each step. Steps are normalised over
    windows of `window` pixels, about a patch; `unit` is the side in pixels of what people see as one. Where pixels are
    `unread` (H,W) by the model nothing limits the texture, and it keeps its initial light and dark squares.
    """
    mask, start = mask.to(like), _blotches(like, 2 * unit)
    kept = torch.zeros_like(mask, dtype=torch.bool) if unread is None else unread
    change = project(_PUSH * mask * start, steps[0])
    for count in steps[1:]:
        push = _even(mask * _uphill(mask * change, unit), mask, window)
        change = project(_PUSH * mask * torch.where(kept, start, push), count)
    return change


def allowed_room(mask: Tensor, near: Tensor) -> Tensor:
    """(H,W): the share of its range by which a pixel may change: `mask` (H,W), and EDGE of its maximum where `near`."""
    return torch.maximum(mask, EDGE * mask.max() * near.to(mask))


def _uphill(change: Tensor, unit: int) -> Tensor:
    """Gradient (B,3,H,W) of half the energy of brightness: at half size, plus `_FINE` of it at full size."""
    bright = luma(change)[:, None]
    seen = _FINE * _averaged_twice(bright, unit) + _averaged_twice(bright, 2 * unit)
    return seen * change.new_tensor(LUMA)[:, None, None]


def _averaged_twice(bright: Tensor, side: int) -> Tensor:
    """Mean over squares of `side` pixels, then its transpose, at every offset: a triangle filter along each axis."""
    if side == 1:
        return bright
    line = torch.cat([torch.arange(1, side + 1), torch.arange(side - 1, 0, -1)]).to(bright) / side**2
    rows = functional.conv2d(bright, line[None, None, :, None], padding=(side - 1, 0))
    return functional.conv2d(rows, line[None, None, None, :], padding=(0, side - 1))


def _even(uphill: Tensor, mask: Tensor, window: int) -> Tensor:
    """A direction (B,3,H,W) with the root mean square of `mask` (H,W) in every window: steps of equal length."""
    half = window // 2
    energy = functional.avg_pool2d(uphill.square().mean(1, keepdim=True), 2 * half + 1, stride=1, padding=half)
    cover = functional.avg_pool2d(mask.square()[None, None], 2 * half + 1, stride=1, padding=half)
    return uphill * (cover / energy.clamp_min(1e-24)).sqrt()


def _blotches(like: Tensor, side: int) -> Tensor:
    """The initial texture: light and dark squares at random, (1,1,H,W), the same for every picture."""
    height, width = like.shape[-2:]
    count = 1, 1, -(-height // side), -(-width // side)
    signs = 2.0 * torch.randint(0, 2, count, generator=torch.Generator().manual_seed(0)) - 1
    return signs.repeat_interleave(side, -2).repeat_interleave(side, -1)[..., :height, :width].to(like)
