"""The furthest change inside the pixel box: kernel elements z around patches x with x + z in [0,1].

Along a direction that is a formula, along a linear functional a linear programme; `largest` has the largest norm.
Shapes: patches (...,3p²) in [0,1], changes alike, in pixel units; one number per patch (...,). All in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.model.images import check_unit_range
from nullspace.model.shapes import Bool, Float
from nullspace.pixels.projection import project_to_box
from nullspace.pixels.solvers.pdhg import solve

RESIDUAL = 1e-7  # norm of what may be left outside the kernel, pixel units: a hundredth of one grey level's rounding


@dataclass(frozen=True, eq=False)
class LargestScale:
    """`delta` = `scale`·direction, the furthest along it that stays in the box; `scale` is inf where nothing stops it.

    `residual` (...,) is the norm of delta's part outside the kernel: 0 up to rounding when the direction lies in it.
    """

    delta: Float[Tensor, "*P pixels"]
    scale: Float[Tensor, "*P"]
    residual: Float[Tensor, "*P"]


@dataclass(frozen=True, eq=False)
class Furthest:
    """`delta` (...,3p²) reaches `value` (...,), and no element of the kernel in the box reaches more than `bound`.

    `residual` (...,) is the norm of delta's part outside the kernel, `reach` what the box alone would allow. A patch
    has converged when its residual is at most RESIDUAL and its gap at most `tolerance`·reach.
    """

    delta: Float[Tensor, "*P pixels"]
    value: Float[Tensor, "*P"]
    bound: Float[Tensor, "*P"]
    reach: Float[Tensor, "*P"]
    residual: Float[Tensor, "*P"]
    iterations: int
    tolerance: float

    @property
    def gap(self) -> Float[Tensor, "*P"]:
        """bound - value (...,): the certificate, at least 0, up to the error that the residual allows."""
        return self.bound - self.value

    @property
    def converged(self) -> Bool[Tensor, "*P"]:
        """Whether each patch (...,) is solved."""
        return (self.residual <= RESIDUAL) & (self.gap <= self.tolerance * self.reach)


def largest_scale(
    patches: Float[Tensor, "*P pixels"], direction: Float[Tensor, "*P pixels"], kernel: PatchKernel
) -> LargestScale:
    """The largest t >= 0 with patches + t·direction in [0,1], per patch, in closed form.

    Raises NullspaceError on other shapes, ImageRangeError when patches leave [0,1].
    """
    x, z = checked(patches, direction, kernel)
    room = torch.where(z > 0, 1 - x, x)
    steps = torch.where(z == 0, torch.inf, room / z.abs())
    scale = steps.min(dim=-1).values
    finite = torch.where(scale.isfinite(), scale, 0.0)  # a zero direction never meets the box
    delta = torch.clamp(finite[:, None] * z, -x, 1 - x)
    shape = patches.shape[:-1]
    return LargestScale(delta.view(patches.shape), scale.view(shape), outside(delta, kernel).view(shape))


def furthest(
    patches: Float[Tensor, "*P pixels"],
    functional: Float[Tensor, "*P pixels"],
    kernel: PatchKernel,
    *,
    iterations: int = 4000,
    tolerance: float = 1e-4,
) -> Furthest:
    """The kernel element in the box that goes furthest along `functional` (...,3p²), per patch, with its certificate.

    Solves max ⟨functional,z⟩ subject to z in ker A, 0 <= patches + z <= 1, all patches at once; equivalent to
    scipy.optimize.linprog up to `tolerance`·reach. The dual multipliers prove `bound` whether it converged or not.
    """
    x, c = checked(patches, functional, kernel)
    if iterations < 1 or not tolerance > 0:
        raise NullspaceError(f"expected iterations >= 1 and tolerance > 0, got {iterations} and {tolerance}")
    result = _furthest(x, c, kernel, iterations, tolerance)
    per_patch = {
        name: getattr(result, name).view(patches.shape[:-1]) for name in ("value", "bound", "reach", "residual")
    }
    return replace(result, delta=result.delta.view(patches.shape), **per_patch)


def _furthest(x: Tensor, c: Tensor, kernel: PatchKernel, iterations: int, tolerance: float) -> Furthest:
    """`furthest` on checked patches (n,3p²): the linear programme, then its answer projected into the kernel."""
    low, high, rows = -x, 1 - x, kernel.row_space.to(x)
    length = torch.linalg.vector_norm(c, dim=-1, keepdim=True) / math.sqrt(kernel.patch_dim)
    unit = torch.where(length > 0, c / length.clamp(min=1e-300), 0.0)
    reach = torch.maximum(low * unit, high * unit).sum(-1)
    # A quarter of the tolerance for the linear programme: projecting its answer costs some of the rest.
    solution = solve(unit, low, high, rows, iterations=iterations, gap=tolerance / 4 * reach)
    projected = project_to_box(x, solution.change, kernel, iterations=2000, tolerance=RESIDUAL)
    length = length[:, 0]
    return Furthest(
        delta=projected.delta,
        value=(c * projected.delta).sum(-1),
        bound=length * solution.bound,
        reach=length * reach,
        residual=outside(projected.delta, kernel),
        iterations=solution.iterations,
        tolerance=tolerance,
    )


def checked(patches: Tensor, other: Tensor, kernel: PatchKernel) -> tuple[Tensor, Tensor]:
    """Both as (n,3p²) float64, on the patches' device."""
    if patches.shape != other.shape or patches.shape[-1:] != (kernel.patch_dim,):
        raise NullspaceError(
            f"expected patches and a direction of one shape (...,{kernel.patch_dim}), got {tuple(patches.shape)} and "
            f"{tuple(other.shape)}; SplitViT.patchify makes patches"
        )
    if not bool(torch.isfinite(other).all()):
        raise NullspaceError("expected finite numbers as direction, got NaN or infinity; divide by its largest entry")
    check_unit_range(patches)
    flat = patches.detach().reshape(-1, kernel.patch_dim).double()
    return flat, other.detach().reshape(-1, kernel.patch_dim).to(flat)


def outside(delta: Tensor, kernel: PatchKernel) -> Tensor:
    """Norm (...,) of the part of changes (...,3p²) outside the kernel."""
    return torch.linalg.vector_norm(delta @ kernel.row_space.to(delta), dim=-1)
