"""Pixels: the closest change of an image that lies in the kernel AND leaves every pixel in [0,1]; 8-bit rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.images import check_unit_range
from nullspace.model.shapes import Float
from nullspace.pixels.solvers.dual_ascent import Box, project

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel


@dataclass(frozen=True)
class Projection:
    """A change of patches, with the evidence of how exact it is."""

    delta: Float[Tensor, "*P pixels"]  # pixel units; patches + delta is inside [0,1] exactly
    residual: Float[Tensor, "*P"]  # norm of the part of each patch's delta that is outside the kernel, pixel units
    iterations: int
    tolerance: float

    @property
    def converged(self) -> bool:
        """Whether every residual is within the tolerance."""
        return bool((self.residual <= self.tolerance).all())


def project_to_box(
    patches: Float[Tensor, "*P pixels"],
    delta: Float[Tensor, "*P pixels"],
    kernel: PatchKernel,
    *,
    room: Float[Tensor, "*P pixels"] | None = None,
    iterations: int = 500,
    tolerance: float = 1e-5,
) -> Projection:
    """Closest change to `delta` (...,3p^2) in ker A with patches + change in [0,1]; one problem per patch, batched.

    `room` (...,3p^2) in [0,1] is the share of the way to black and to white that each pixel may go, by default all.

    The dual is climbed along conjugate directions (`dual_ascent`), in up to `iterations` steps; Dykstra's algorithm is
    gradient ascent on the same function. No change at all is always allowed, so an answer exists. Runs in delta's dtype
    and on its device; patches that have converged are set aside.

    float32 reaches residuals near 1e-6; ask for less in float64. Raises ImageRangeError when patches leave [0,1].
    """
    _check(patches, delta, kernel, iterations, tolerance)
    flat, wanted = patches.reshape(-1, patches.shape[-1]).to(delta), delta.reshape(-1, delta.shape[-1])
    rows = kernel.row_space.to(device=delta.device, dtype=delta.dtype)
    box = Box()
    if room is not None:
        share = room.reshape(flat.shape).to(delta)
        check_unit_range(share)
        box = Box(flat - share * flat, flat + share * (1 - flat))
    found = project(flat, wanted, box, rows, iterations=iterations, tolerance=tolerance)
    change, residual = found.pixels.sub_(flat), found.residual
    return Projection(change.reshape(delta.shape), residual.reshape(delta.shape[:-1]), found.steps, tolerance)


def _check(patches: Tensor, delta: Tensor, kernel: PatchKernel, iterations: int, tolerance: float) -> None:
    if patches.shape != delta.shape or delta.shape[-1:] != (kernel.patch_dim,):
        raise NullspaceError(
            f"expected patches and delta of one shape (...,{kernel.patch_dim}), got {tuple(patches.shape)} and "
            f"{tuple(delta.shape)}; SplitViT.patchify makes them"
        )
    if not delta.is_floating_point() or not bool(torch.isfinite(delta).all()):
        raise NullspaceError(f"expected a finite float delta, got {delta.dtype} with NaN, infinity or integers")
    if iterations < 1 or tolerance < 0:
        raise NullspaceError(f"expected iterations >= 1 and tolerance >= 0, got {iterations} and {tolerance}")
    check_unit_range(patches)
