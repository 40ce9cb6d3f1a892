"""Pixels: the closest change of an image that lies in the kernel AND leaves every pixel in [0,1]; 8-bit rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.solvers import Ascent
from nullspace.model.images import check_unit_range

if TYPE_CHECKING:
    from nullspace.kernel.patch_kernel import PatchKernel


@dataclass(frozen=True)
class Projection:
    """A change of patches, with the evidence of how exact it is."""

    delta: Tensor  # (...,3p^2), pixel units; patches + delta is inside [0,1] exactly
    residual: Tensor  # (...,) norm of the part of each patch's delta that is outside the kernel, pixel units
    iterations: int
    tolerance: float

    @property
    def converged(self) -> bool:
        """Whether every residual is within the tolerance."""
        return bool((self.residual <= self.tolerance).all())


def project_to_box(
    patches: Tensor,
    delta: Tensor,
    kernel: PatchKernel,
    *,
    room: Tensor | None = None,
    iterations: int = 500,
    tolerance: float = 1e-5,
) -> Projection:
    """Closest change to `delta` (...,3p^2) in ker A with patches + change in [0,1]; one problem per patch, batched.

    `room` (...,3p^2) in [0,1] is the share of the way to black and to white that each pixel may go, by default all.

    Dykstra's algorithm. For a subspace and a box it is gradient ascent with step 1 on the dual: with Q the row space,
    z = clip(delta - Q m) and m += Q^T z, whose gradient Q^T z is just the residual. That view allows Nesterov's
    acceleration with restart per patch, which takes tens of iterations where plain Dykstra takes hundreds. No change
    at all is always allowed, so an answer exists. Runs in delta's dtype; patches that have converged are set aside.

    float32 reaches residuals near 1e-6; ask for less in float64. Raises ImageRangeError when patches leave [0,1].
    """
    _check(patches, delta, kernel, iterations, tolerance)
    flat, wanted = patches.reshape(-1, patches.shape[-1]).to(delta), delta.reshape(-1, delta.shape[-1])
    rows = kernel.row_space.to(device=delta.device, dtype=delta.dtype)
    low, high = -flat, 1 - flat
    if room is not None:
        share = room.reshape(flat.shape).to(delta)
        check_unit_range(share)
        low, high = share * low, share * high
    answer, residual, used = _ascend(wanted, low, high, rows, iterations, tolerance)
    return Projection(answer.reshape(delta.shape), residual.reshape(delta.shape[:-1]), used, tolerance)


def _ascend(
    wanted: Tensor, low: Tensor, high: Tensor, rows: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, int]:
    """Best answer (n,3p^2) and residual (n,) per patch after accelerated dual ascent, and the iterations used."""
    answer = (wanted - (wanted @ rows) @ rows.T).clamp(low, high)
    residual = torch.linalg.vector_norm(answer @ rows, dim=-1)
    todo = (residual > tolerance).nonzero().squeeze(-1)
    # From the multipliers of the plain projection onto the kernel: exact when the box is never touched.
    open_wanted, open_low, open_high = wanted[todo], low[todo], high[todo]
    ascent = Ascent.start(open_wanted @ rows)
    used = 0
    while len(todo) and used < iterations:
        used += 1
        change = torch.clamp(torch.addmm(open_wanted, ascent.ahead, rows.T, alpha=-1), open_low, open_high)
        gradient = change @ rows
        size = torch.linalg.vector_norm(gradient, dim=-1)
        ascent = ascent.climbed(gradient, 1.0)
        better = size < residual[todo]
        answer[todo[better]], residual[todo[better]] = change[better], size[better]
        open_ = size > tolerance
        if used % 5 == 0 and not bool(open_.all()):  # setting patches aside costs a copy: not at every step
            todo, ascent = todo[open_], ascent.subset(open_)
            open_wanted, open_low, open_high = open_wanted[open_], open_low[open_], open_high[open_]
    return answer, residual, used


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
