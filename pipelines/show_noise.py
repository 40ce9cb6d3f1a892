"""Changes of a file to show: noise from its kernel that fits into the pixel range, and the same permuted as control."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.box import largest_noise
from nullspace.controls import permuted
from nullspace.errors import NullspaceError
from nullspace.file_kernel import FileKernel
from nullspace.patches import patchify, unpatchify

_STEPS = (40, 40, 40, 150)  # iterations of the projections, each nearer to the wanted size
_CLOSE = 5e-3  # of the wanted size
_PUSH = 1.5  # of the pixel range: how far a step to the largest noise aims; most pixels end at the edge of the box
_LARGEST_STEPS = (30, 30, 30, 150)
_HALVINGS = 30


def kernel_noise(
    kernel: FileKernel, clean: Tensor, *, rms: float, generator: torch.Generator, free: Tensor | None = None
) -> Tensor:
    """A change (3,H,W) of `clean` (3,H,W) in [0,1], in the kernel of the file and inside [0,1], float64.

    Gaussian at first; `rms` is of the `free` pixels (H,W), by default of all, and smaller where the range does not hold
    as much. Raises NullspaceError where the model sees every change.
    """
    wanted = kernel.sample(1, rms=rms, generator=generator).delta
    change = wanted
    for count in _STEPS:
        change = kernel.project_to_box(clean[None], wanted, room=_room(free), iterations=count).delta
        got = size_of(change[0], free)
        if got == 0:
            raise NullspaceError("no noise of the kernel fits into the pixels that may change")
        if abs(got / rms - 1) <= _CLOSE:
            break
        wanted = wanted * (rms / got)
    return change[0]


def strongest_noise(
    kernel: FileKernel, clean: Tensor, *, generator: torch.Generator, free: Tensor | None = None
) -> Tensor:
    """A local optimum (3,H,W) of the norm in the kernel inside [0,1] for `clean` (3,H,W).

    Of a file that is only cropped by `box.largest_noise`; else each step goes to the point nearest to a multiple of the
    one before, as the norm is a convex function whose gradient is the change itself.
    """
    if kernel.resize.only_crops and free is None:
        return _of_a_crop(kernel, clean, generator)
    change = kernel.sample(1, rms=1, generator=generator).delta
    for count in _LARGEST_STEPS:
        got = size_of(change[0], free)
        if got == 0:
            raise NullspaceError("no noise of the kernel fits into the pixels that may change")
        wanted = _PUSH / got * change
        change = kernel.project_to_box(clean[None], wanted, room=_room(free), iterations=count).delta
    return change[0]


def permuted_noise(change: Tensor, clean: Tensor, *, generator: torch.Generator, free: Tensor | None = None) -> Tensor:
    """The entries of `change` (3,H,W) in random order, inside [0,1], of the same norm: what is cut off is made up for.

    Where even black and white do not give the norm, as much of it as they do.
    """
    where = torch.ones_like(clean[0], dtype=torch.bool) if free is None else free
    mixed = torch.zeros_like(change)
    mixed[:, where] = permuted(change[:, where], generator)
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


def size_of(change: Tensor, free: Tensor | None = None) -> float:
    """Root mean square of a change (3,H,W) over the pixels that are `free` (H,W), by default all."""
    return float((change if free is None else change[:, free]).double().square().mean().sqrt())


def _room(free: Tensor | None) -> Tensor | None:
    return None if free is None else free.double()


def _of_a_crop(kernel: FileKernel, clean: Tensor, generator: torch.Generator) -> Tensor:
    patches = patchify(kernel.resize.apply(clean)[None], kernel.patch_size)
    found = largest_noise(patches, kernel.kernel, generator=generator, tolerance=0.05, iterations=1000)
    change = torch.where(clean < 0.5, 1 - clean, -clean)  # what is cut off may go all the way
    inside = kernel.resize.adjoint(unpatchify(found.delta, kernel.patch_size, kernel.grid))
    return torch.where(kernel.resize.read, inside[0], change)
