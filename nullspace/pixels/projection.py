"""Pixels: the closest change of an image that lies in the kernel AND leaves every pixel in [0,1]; 8-bit rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
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
    state = _Dual.start(wanted[todo], low[todo], high[todo], rows)
    used = 0
    while len(todo) and used < iterations:
        used += 1
        change, size = state.step()
        better = size < residual[todo]
        answer[todo[better]], residual[todo[better]] = change[better], size[better]
        open_ = size > tolerance
        if used % 5 == 0 and not bool(open_.all()):  # setting patches aside costs a copy: not at every step
            todo, state = todo[open_], state.subset(open_)
    return answer, residual, used


@dataclass
class _Dual:
    """Multipliers of the constraints Q^T z = 0 for a batch of patches, with the momentum of Nesterov's method."""

    wanted: Tensor
    low: Tensor
    high: Tensor
    rows: Tensor
    multiplier: Tensor  # (n,rank)
    lookahead: Tensor  # (n,rank)
    age: Tensor  # (n,1) steps since the last restart, in Nesterov's sequence

    @classmethod
    def start(cls, wanted: Tensor, low: Tensor, high: Tensor, rows: Tensor) -> _Dual:
        multiplier = wanted @ rows  # the plain projection onto the kernel: exact when the box is never touched
        return cls(wanted, low, high, rows, multiplier, multiplier, torch.ones_like(multiplier[:, :1]))

    def step(self) -> tuple[Tensor, Tensor]:
        """The change (n,3p^2) at the present multipliers and the norm (n,) of its part outside the kernel."""
        change = torch.clamp(torch.addmm(self.wanted, self.lookahead, self.rows.T, alpha=-1), self.low, self.high)
        gradient = change @ self.rows
        following = self.lookahead + gradient
        movement = following - self.multiplier
        uphill = (gradient * movement).sum(-1, keepdim=True) >= 0
        age = torch.where(uphill, (1 + torch.sqrt(1 + 4 * self.age.square())) / 2, torch.ones_like(self.age))
        momentum = torch.where(uphill, (self.age - 1) / age, torch.zeros_like(age))
        self.multiplier, self.lookahead, self.age = following, following + momentum * movement, age
        return change, torch.linalg.vector_norm(gradient, dim=-1)

    def subset(self, keep: Tensor) -> _Dual:
        """The same state for the patches (n,) bool still to be solved."""
        parts = (self.wanted, self.low, self.high, self.multiplier, self.lookahead, self.age)
        wanted, low, high, multiplier, lookahead, age = (part[keep] for part in parts)
        return _Dual(wanted, low, high, self.rows, multiplier, lookahead, age)


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
