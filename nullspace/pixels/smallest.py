"""The smallest change with a wanted effect, for a linear map that is applied and never formed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def smallest_change(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    wanted: Tensor,
    *,
    damping: float,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """The smallest change of which the linear `forward` makes `wanted`, by conjugate gradients on forward ∘ adjoint.

    `damping`, over the mean curvature, keeps directions that hardly can be moved from being moved far; `tolerance` is
    relative to |wanted|.
    """
    solution, residual = torch.zeros_like(wanted), wanted
    direction, energy = residual, float(residual.square().sum())
    enough = energy * tolerance**2
    damping *= float(adjoint(wanted).square().sum()) / max(energy, 1e-30)
    for _ in range(iterations):
        if energy <= enough:
            break
        image = forward(adjoint(direction)) + damping * direction
        curvature = float((direction * image).sum())
        if curvature <= 0:
            break
        step = energy / curvature
        solution, residual = solution + step * direction, residual - step * image
        following = float(residual.square().sum())
        direction, energy = residual + following / energy * direction, following
    return adjoint(solution)
