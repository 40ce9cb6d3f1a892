"""The largest noise inside the pixel box: kernel elements z around patches x with x + z in [0,1].

Along a direction that is a formula, along a linear functional a linear programme, and for the largest norm (a convex
function maximised over a polytope) a sequence of linear programmes that ends in a local optimum.
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
from nullspace.pixels.pdhg import solve
from nullspace.pixels.projection import project_to_box

RESIDUAL = 1e-7  # norm of what may be left outside the kernel, pixel units: a hundredth of one grey level's rounding


@dataclass(frozen=True, eq=False)
class LargestScale:
    """`delta` = `scale`·direction, the furthest along it that stays in the box; `scale` is inf where nothing stops it.

    `residual` (...,) is the norm of delta's part outside the kernel: 0 up to rounding when the direction lies in it.
    """

    delta: Tensor
    scale: Tensor
    residual: Tensor


@dataclass(frozen=True, eq=False)
class Furthest:
    """`delta` (...,3p²) reaches `value` (...,), and no element of the kernel in the box reaches more than `bound`.

    `residual` (...,) is the norm of delta's part outside the kernel, `reach` what the box alone would allow. A patch
    has converged when its residual is at most RESIDUAL and its gap at most `tolerance`·reach.
    """

    delta: Tensor
    value: Tensor
    bound: Tensor
    reach: Tensor
    residual: Tensor
    iterations: int
    tolerance: float

    @property
    def gap(self) -> Tensor:
        """bound - value (...,): the certificate, at least 0 up to what the residual can feign."""
        return self.bound - self.value

    @property
    def converged(self) -> Tensor:
        """Whether each patch (...,) is solved."""
        return (self.residual <= RESIDUAL) & (self.gap <= self.tolerance * self.reach)


@dataclass(frozen=True, eq=False)
class LargestNoise:
    """A local optimum `delta` (...,3p²) of the norm in kernel ∩ box, beside what one random direction reaches.

    `rms` and `start_rms` (...,) are in pixel units; `history` has start_rms, then the rms after every linear programme.
    `gap` (...,) bounds by what share of its length delta, as it was before the last one, could still go along itself.
    """

    delta: Tensor
    rms: Tensor
    start_rms: Tensor
    history: Tensor
    residual: Tensor
    gap: Tensor
    tolerance: float

    @property
    def converged(self) -> Tensor:
        """Whether each patch (...,) is at a local optimum up to `tolerance` and in the kernel up to RESIDUAL."""
        return (self.residual <= RESIDUAL) & (self.gap <= self.tolerance)


def largest_scale(patches: Tensor, direction: Tensor, kernel: PatchKernel) -> LargestScale:
    """The largest t >= 0 with patches + t·direction in [0,1], per patch, in closed form.

    Raises NullspaceError on other shapes, ImageRangeError when patches leave [0,1].
    """
    x, z = _checked(patches, direction, kernel)
    room = torch.where(z > 0, 1 - x, x)
    steps = torch.where(z == 0, torch.inf, room / z.abs())
    scale = steps.min(dim=-1).values
    finite = torch.where(scale.isfinite(), scale, 0.0)  # a zero direction never meets the box
    delta = torch.clamp(finite[:, None] * z, -x, 1 - x)
    shape = patches.shape[:-1]
    return LargestScale(delta.view(patches.shape), scale.view(shape), _outside(delta, kernel).view(shape))


def furthest(
    patches: Tensor, functional: Tensor, kernel: PatchKernel, *, iterations: int = 4000, tolerance: float = 1e-4
) -> Furthest:
    """The kernel element in the box that goes furthest along `functional` (...,3p²), per patch, with its certificate.

    Solves max ⟨functional,z⟩ subject to z in ker A, 0 <= patches + z <= 1, all patches at once; equivalent to
    scipy.optimize.linprog up to `tolerance`·reach. The dual multipliers prove `bound` whether it converged or not.
    """
    x, c = _checked(patches, functional, kernel)
    if iterations < 1 or not tolerance > 0:
        raise NullspaceError(f"expected iterations >= 1 and tolerance > 0, got {iterations} and {tolerance}")
    result = _furthest(x, c, kernel, iterations, tolerance)
    per_patch = {
        name: getattr(result, name).view(patches.shape[:-1]) for name in ("value", "bound", "reach", "residual")
    }
    return replace(result, delta=result.delta.view(patches.shape), **per_patch)


def largest_noise(
    patches: Tensor,
    kernel: PatchKernel,
    *,
    generator: torch.Generator,
    steps: int = 6,
    tolerance: float = 1e-2,
    iterations: int = 4000,
) -> LargestNoise:
    """Noise of the largest norm in kernel ∩ box, up to a local optimum, per patch.

    Successive linearisation: the norm is convex, so the furthest point along z is at least as long as z. It begins with
    the furthest point along a random direction of the kernel, drawn from `generator`, which brings most of the length.
    A patch ends when its `gap` is at most `tolerance`. A trivial kernel has no noise but zero.
    """
    x, _ = _checked(patches, patches, kernel)
    if steps < 1 or not tolerance > 0:
        raise NullspaceError(f"expected steps >= 1 and tolerance > 0, got {steps} and {tolerance}")
    drawn = torch.randn(x.shape, dtype=torch.float64, generator=generator, device=generator.device).to(x.device)
    direction = torch.zeros_like(x) if kernel.is_trivial else kernel.project(drawn)
    delta = largest_scale(x, direction, kernel).delta
    start_rms = _rms(delta)
    # Not along delta at first: one pixel at 0 or 1 can hold it at zero, which leads nowhere.
    delta = _longer(delta, _furthest(x, direction, kernel, iterations, tolerance / 2))
    history, gap = [start_rms, _rms(delta)], torch.full_like(start_rms, torch.inf)
    todo = torch.arange(len(x), device=x.device)
    while len(history) <= steps and len(todo):
        before, squared = delta[todo], delta[todo].square().sum(-1)
        found = _furthest(x[todo], before, kernel, iterations, tolerance / 2, squared)
        # no z reaches ⟨delta,z⟩ > bound, so bound/⟨delta,delta⟩ - 1 is what delta could gain along itself
        gap[todo] = torch.where(squared > 0, found.bound / squared.clamp(min=1e-300) - 1, 0.0)
        delta[todo] = _longer(before, found)
        history.append(_rms(delta))
        todo = todo[(gap[todo] > tolerance) & (delta[todo] != before).any(dim=-1)]
    shape = patches.shape[:-1]
    return LargestNoise(
        delta=delta.view(patches.shape),
        rms=history[-1].view(shape),
        start_rms=start_rms.view(shape),
        history=torch.stack(history).view(-1, *shape),
        residual=_outside(delta, kernel).view(shape),
        gap=gap.view(shape),
        tolerance=tolerance,
    )


def _furthest(
    x: Tensor, c: Tensor, kernel: PatchKernel, iterations: int, tolerance: float, unit_gap: Tensor | None = None
) -> Furthest:
    """`furthest` on checked patches (n,3p²): the linear programme, then its answer mended to lie in the kernel.

    The gap aimed at is `tolerance` times `unit_gap` (n,), by default the reach.
    """
    low, high, rows = -x, 1 - x, kernel.row_space.to(x)
    length = torch.linalg.vector_norm(c, dim=-1, keepdim=True) / math.sqrt(kernel.patch_dim)
    unit = torch.where(length > 0, c / length.clamp(min=1e-300), 0.0)
    reach = torch.maximum(low * unit, high * unit).sum(-1)
    # A quarter of the tolerance for the linear programme: mending its answer costs some of the rest.
    size = reach if unit_gap is None else unit_gap / length[:, 0].clamp(min=1e-300)
    solution = solve(unit, low, high, rows, iterations=iterations, gap=tolerance / 4 * size)
    mended = project_to_box(x, solution.change, kernel, iterations=2000, tolerance=RESIDUAL)
    length = length[:, 0]
    return Furthest(
        delta=mended.delta,
        value=(c * mended.delta).sum(-1),
        bound=length * solution.bound,
        reach=length * reach,
        residual=_outside(mended.delta, kernel),
        iterations=solution.iterations,
        tolerance=tolerance,
    )


def _longer(delta: Tensor, found: Furthest) -> Tensor:
    """The longer of both per patch (n,3p²), of those that lie in the kernel."""
    better = (_rms(found.delta) > _rms(delta)) & (found.residual <= RESIDUAL)
    return torch.where(better[:, None], found.delta, delta)


def _checked(patches: Tensor, other: Tensor, kernel: PatchKernel) -> tuple[Tensor, Tensor]:
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


def _outside(delta: Tensor, kernel: PatchKernel) -> Tensor:
    return torch.linalg.vector_norm(delta @ kernel.row_space.to(delta), dim=-1)


def _rms(delta: Tensor) -> Tensor:
    return delta.square().mean(dim=-1).sqrt()
