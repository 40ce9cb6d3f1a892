"""Changes of a file to show: noise from its kernel within the pixel range, and the same permuted as control."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.file_kernel import FileKernel
from nullspace.metrics.controls import permuted
from nullspace.metrics.draws import Draws
from nullspace.model.patches import patchify, unpatchify
from nullspace.pixels.largest import largest_noise

_STEPS = (20, 20, 20, 80)  # iterations of the projections: a few to find the size roughly, and an accurate one
_PUSH = (
    1.5  # of the pixel range: length of a step towards the largest noise; most pixels end at the boundary of the box
)
_LARGEST_STEPS = (30, 30, 100)
_HALVINGS = 30


def kernel_noise(kernel: FileKernel, clean: Tensor, free: Tensor, *, rms: float, generator: torch.Generator) -> Tensor:
    """A change (3,H,W) of `clean` (3,H,W) in [0,1], in the kernel of the file and inside [0,1], float64.

    Initially Gaussian; `rms` is that over the `free` pixels (H,W), the only ones that change, and is smaller where the
    range does not allow as much. Raises NullspaceError where the model sees every change.
    """
    wanted = kernel.sample(1, rms=rms, generator=generator).delta
    change = wanted
    for count in _STEPS:
        change = kernel.project_to_box(clean[None], wanted, room=free.double(), iterations=count).delta
        got = size_of(change[0], free)
        if got == 0:
            raise NullspaceError("no noise of the kernel fits into the pixels that may change")
        wanted = wanted * (rms / got)
    return change[0]


def strongest_noise(kernel: FileKernel, clean: Tensor, free: Tensor, *, generator: torch.Generator) -> Tensor:
    """A local optimum (3,H,W) of the norm in the kernel inside [0,1] for `clean` (3,H,W), `free` (H,W) as above.

    By `largest_noise` for a file that is only cropped; else each step projects a multiple of the change before, as
    the norm is a convex function whose gradient is the change itself.
    """
    if kernel.resize.only_crops and torch.equal(free, kernel.resize.read):
        return _of_a_crop(kernel, clean, generator)
    change = kernel.sample(1, rms=1, generator=generator).delta
    for count in _LARGEST_STEPS:
        got = size_of(change[0], free)
        if got == 0:
            raise NullspaceError("no noise of the kernel fits into the pixels that may change")
        wanted = _PUSH / got * change
        change = kernel.project_to_box(clean[None], wanted, room=free.double(), iterations=count).delta
    return change[0]


def permuted_noise(change: Tensor, clean: Tensor, free: Tensor, *, draws: Draws) -> Tensor:
    """The entries of `change` (3,H,W) in random order among the `free` pixels (H,W), inside [0,1], of the same norm.

    `draws` are of one id. A factor compensates for what clipping removes; if even black and white do not reach the
    norm, it is smaller.
    """
    mixed = torch.zeros_like(change)
    mixed[:, free] = permuted(change[:, free], draws)[0]
    norm = float(change.norm())

    def cut(factor: float) -> Tensor:
        return (clean + factor * mixed).clamp(0, 1) - clean

    low, high = 1.0, 1.0
    while float(cut(high).norm()) < norm and high < 1e3:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(cut(middle).norm()) < norm else (low, middle)
    return cut(high)


def size_of(change: Tensor, free: Tensor) -> float:
    """Root mean square of a change (3,H,W) over the pixels that are `free` (H,W)."""
    return float(change[:, free].double().square().mean().sqrt())


def _of_a_crop(kernel: FileKernel, clean: Tensor, generator: torch.Generator) -> Tensor:
    patches = patchify(kernel.resize.apply(clean)[None], kernel.patch_size)
    found = largest_noise(patches, kernel.kernel, generator=generator, tolerance=0.05, iterations=1000)
    return kernel.resize.adjoint(unpatchify(found.delta, kernel.patch_size, kernel.grid))[0]
