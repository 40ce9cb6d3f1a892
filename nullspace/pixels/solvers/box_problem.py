"""Bounded least squares for many patches at once: min |B d - b| over low <= d <= high, with a proof of how good d is.

B is (r,n), one matrix for all patches, in coordinates where its rows are orthogonal: B = diag(sigma) Q^T. Two solvers
share the problem. Reachable targets go to `bounded_newton`, which costs a few products with B and prefers a small d;
targets outside the box's image go to `bounded_interior`, which factors one (r,r) matrix per patch and step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BoxProblem:
    """P problems with one matrix. sigma (r,) descending with sigma[0] = 1; the box holds 0."""

    rows: Tensor  # (n,r), B^T = Q diag(sigma)
    sigma: Tensor  # (r,)
    target: Tensor  # (P,r)
    low: Tensor  # (P,n)
    high: Tensor  # (P,n)
    allowed: Tensor  # (P,) a patch is solved when its residual is proved to be within this of the least possible

    def subset(self, keep: Tensor) -> BoxProblem:
        """The problems named by an index or mask."""
        parts = (self.target[keep], self.low[keep], self.high[keep], self.allowed[keep])
        return BoxProblem(self.rows, self.sigma, *parts)

    def missing(self, delta: Tensor) -> Tensor:
        """What d leaves of the target, (P,r)."""
        return self.target - delta @ self.rows

    def floor(self, delta: Tensor, missing: Tensor) -> Tensor:
        """A residual (P,) that no d in the box can beat, from the hyperplane through `missing`.

        Every point B d' of the box's image has <missing, B d'> <= <missing, B d> + gap, gap being the Frank-Wolfe gap
        (Jaggi 2013, eq. 4), so the target is at least |missing| - gap / |missing| away from the whole image.
        """
        uphill = missing @ self.rows.T
        gap = (torch.maximum(uphill * self.low, uphill * self.high) - uphill * delta).sum(-1)
        size = torch.linalg.vector_norm(missing, dim=-1)
        return torch.where(size > 0, size - gap / size, torch.zeros_like(size)).clamp_min(0)

    def solved(self, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual, floor and whether the two are within `allowed`, each (P,)."""
        missing = self.missing(delta)
        size, floor = torch.linalg.vector_norm(missing, dim=-1), self.floor(delta, missing)
        return size, floor, size - floor <= self.allowed
