"""The smallest change with a wanted effect, for a linear map that is applied and never formed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nullspace.kernel.solvers import conjugate_gradients


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
    damping *= float(adjoint(wanted).square().sum()) / max(float(wanted.square().sum()), 1e-30)
    solution, _ = conjugate_gradients(
        lambda coordinates: forward(adjoint(coordinates)) + damping * coordinates,
        wanted,
        product=lambda one, other: (one * other).sum().double(),
        enough=lambda energy, first: bool(energy <= first * tolerance**2),
        iterations=iterations,
    )
    return adjoint(solution)
