"""The largest noise inside the pixel box: the longest z in the kernel with x + z in [0,1], patch by patch.

A convex function maximised over a polytope, up to a local optimum. Each step projects a multiple of the change before
onto kernel ∩ box: as the multiple grows that tends to the furthest point along the change, the successive linearisation
of a convex function, and the multipliers of the projection bound how far any change can go along it. Several times as
fast as one linear programme for each step, and as large within 1 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel
from nullspace.model.shapes import Bool, Float
from nullspace.pixels.box import RESIDUAL, checked, largest_scale, outside
from nullspace.pixels.solvers.dual_ascent import Answers, Box, project
from nullspace.pixels.solvers.pdhg import upper_bound

_PUSH = 6.0  # root mean square that a change is stretched to before it is projected, of the pixel range
_ROUGH_ITERATIONS, _ROUGH_RESIDUAL = 30, 1e-3
_STRONGEST = 1e4  # push; beyond it digits are lost


@dataclass(frozen=True, eq=False)
class LargestNoise:
    """A local optimum `delta` (...,3p²) of the norm in kernel ∩ box, beside what one random direction reaches.

    `rms` and `start_rms` (...,) are in pixel units; `history` has start_rms, then the rms after `steps` and after
    every exact step. `gap` (...,) bounds by what share of its length delta, as it was before the last exact step, could
    still go along itself.
    """

    delta: Float[Tensor, "*P pixels"]
    rms: Float[Tensor, "*P"]
    start_rms: Float[Tensor, "*P"]
    history: Float[Tensor, "steps ..."]
    residual: Float[Tensor, "*P"]
    gap: Float[Tensor, "*P"]
    tolerance: float

    @property
    def converged(self) -> Bool[Tensor, "*P"]:
        """Whether each patch (...,) is at a local optimum up to `tolerance` and in the kernel up to RESIDUAL."""
        return (self.residual <= RESIDUAL) & (self.gap <= self.tolerance)


def largest_noise(
    patches: Float[Tensor, "*P pixels"],
    kernel: PatchKernel,
    *,
    generator: torch.Generator,
    steps: int = 6,
    exact_steps: int = 0,
    tolerance: float = 1e-2,
    iterations: int = 4000,
) -> LargestNoise:
    """Noise of the largest norm in kernel ∩ box, up to a local optimum, per patch (...,3p²); delta in float64.

    It begins with a random direction of the kernel, drawn from `generator`. `steps` bring nearly all of the length;
    what they leave outside the kernel is removed at the end. Patches whose `gap` is above `tolerance` then go up to
    `exact_steps` further, each of which costs more than all before. Projections take up to `iterations` steps. A
    trivial kernel has no noise but zero. Raises NullspaceError on other shapes, ImageRangeError outside [0,1].
    """
    x, _ = checked(patches, patches, kernel)
    if steps < 1 or exact_steps < 0 or not tolerance > 0:
        raise NullspaceError(
            f"expected steps >= 1, exact_steps >= 0 and tolerance > 0, got {steps}, {exact_steps} and {tolerance}"
        )
    drawn = torch.randn(x.shape, dtype=torch.float64, generator=generator, device=generator.device).to(x.device)
    direction = torch.zeros_like(x) if kernel.is_trivial else kernel.project(drawn)
    delta = largest_scale(x, direction, kernel).delta
    start_rms = _rms(delta)
    delta, _ = _longer(x, delta, _roughly_grown(x, direction, kernel, steps), kernel, iterations)
    history, gap = [start_rms, _rms(delta)], _certified(x, delta, kernel)
    todo, push = (gap > tolerance).nonzero().squeeze(-1), _PUSH
    while len(history) < exact_steps + 2 and len(todo):
        before = delta[todo]
        wanted, factor = _stretched(before, push)
        delta[todo], found = _longer(x[todo], before, wanted, kernel, iterations)
        gap[todo] = torch.minimum(gap[todo], _gap(x[todo], before, found.multiplier / factor, kernel))
        history.append(_rms(delta))
        todo, push = todo[gap[todo] > tolerance], min(2 * push, _STRONGEST)
    shape = patches.shape[:-1]
    return LargestNoise(
        delta=delta.view(patches.shape),
        rms=history[-1].view(shape),
        start_rms=start_rms.view(shape),
        history=torch.stack(history).view(-1, *shape),
        residual=outside(delta, kernel).view(shape),
        gap=gap.view(shape),
        tolerance=tolerance,
    )


def _roughly_grown(x: Tensor, direction: Tensor, kernel: PatchKernel, steps: int) -> Tensor:
    """A large change (n,3p²) near kernel ∩ box, from a direction of the kernel; in float32 and not to the end."""
    change = direction
    for _ in range(steps):
        change = _rough(x, _stretched(change, _PUSH)[0], kernel, _ROUGH_ITERATIONS).pixels.to(x) - x
    return change


def _certified(x: Tensor, delta: Tensor, kernel: PatchKernel) -> Tensor:
    """The gap (n,) of a change, from multipliers that need not be exact to prove it."""
    wanted, factor = _stretched(delta, _PUSH)
    return _gap(x, delta, _rough(x, wanted, kernel, 2 * _ROUGH_ITERATIONS).multiplier.to(x) / factor, kernel)


def _rough(x: Tensor, wanted: Tensor, kernel: PatchKernel, iterations: int) -> Answers:
    rows = kernel.row_space.to(x.device).float()
    return project(x.float(), wanted.float(), Box(), rows, iterations=iterations, tolerance=_ROUGH_RESIDUAL)


def _longer(x: Tensor, delta: Tensor, wanted: Tensor, kernel: PatchKernel, iterations: int) -> tuple[Tensor, Answers]:
    """The longer of `delta` and the projection of `wanted` per patch (n,3p²), of those that lie in the kernel."""
    found = project(x, wanted, Box(), kernel.row_space.to(x), iterations=iterations, tolerance=RESIDUAL / 2)
    change = found.pixels - x
    better = (_rms(change) > _rms(delta)) & (outside(change, kernel) <= RESIDUAL)
    return torch.where(better[:, None], change, delta), found


def _gap(x: Tensor, delta: Tensor, multiplier: Tensor, kernel: PatchKernel) -> Tensor:
    """No z reaches ⟨delta,z⟩ > bound, so bound/⟨delta,delta⟩ - 1 is what delta could gain along itself."""
    squared = delta.square().sum(-1)
    bound = upper_bound(delta, multiplier, -x, 1 - x, kernel.row_space.to(x))
    return torch.where(squared > 0, bound / squared.clamp(min=1e-300) - 1, 0.0)


def _stretched(change: Tensor, rms: float) -> tuple[Tensor, Tensor]:
    """A change (n,3p²) of a given root mean square, zero where it is zero, and the factor (n,1)."""
    factor = rms / _rms(change)[:, None].clamp(min=1e-12)
    return factor * change, factor


def _rms(delta: Tensor) -> Tensor:
    return delta.square().mean(dim=-1).sqrt()
