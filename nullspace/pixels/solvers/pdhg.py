"""The linear programme behind `box`: max ⟨c,z⟩ subject to Qᵀz = 0 and low <= z <= high, for a batch of patches.

Primal-dual hybrid gradient with reflected Halpern steps, restarts and an adaptive primal weight, each per patch. Q has
orthonormal columns, so the step sizes need no estimate. Source: Lu and Yang 2024, "Restarted Halpern PDHG for linear
programming" (arXiv 2407.16144), whose restart rules and weight update these are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

CHECK_EVERY = 20  # iterations between looks at the gap: a look costs as much as half an iteration


@dataclass(frozen=True, eq=False)
class Solution:
    """`change` (n,k) is inside the box, `multiplier` (n,r) proves `bound` (n,): no feasible z reaches more."""

    change: Tensor
    multiplier: Tensor
    bound: Tensor
    iterations: int


def upper_bound(functional: Tensor, multiplier: Tensor, low: Tensor, high: Tensor, rows: Tensor) -> Tensor:
    """Largest ⟨c - Qm, z⟩ in the box (n,), which is at least ⟨c,z⟩ for every z of the box with Qᵀz = 0, whatever m."""
    reduced = functional - multiplier @ rows.T
    return torch.maximum(low * reduced, high * reduced).sum(dim=-1)


def solve(
    functional: Tensor,
    low: Tensor,
    high: Tensor,
    rows: Tensor,
    *,
    iterations: int,
    gap: Tensor,
) -> Solution:
    """Solve for functionals (n,k) of norm √k or 0 until each patch is within `gap` (n,) of its optimum.

    `low` <= 0 <= `high` (n,k), `rows` Q (k,r). Patches that got there are set aside.
    """
    change, multiplier = torch.zeros_like(functional), functional @ rows
    todo = torch.arange(len(functional), device=functional.device)
    state = _State.start(functional, low, high, change, multiplier)
    used = 0
    while used < iterations and len(todo):
        used += 1
        state = state.step(rows, used)
        if used % CHECK_EVERY == 0 or used == iterations:
            change[todo], multiplier[todo] = state.next_z, state.next_y
            far = state.error(rows) > gap[todo]
            todo, state = todo[far], state.subset(far)
    return Solution(change, multiplier, upper_bound(functional, multiplier, low, high, rows), used)


@dataclass(frozen=True, eq=False)
class _State:
    """Iterates of a batch: present (z,y), where the last step went (next), and the anchor of the Halpern average."""

    functional: Tensor
    low: Tensor
    high: Tensor
    z: Tensor
    y: Tensor
    next_z: Tensor
    next_y: Tensor
    anchor_z: Tensor
    anchor_y: Tensor
    weight: Tensor  # (n,1) primal weight: steps 1/weight for z, weight for y
    age: Tensor  # (n,1) steps since the restart
    first: Tensor  # (n,1) fixed-point residual right after the restart
    last: Tensor  # (n,1) fixed-point residual of the step before

    @classmethod
    def start(cls, functional: Tensor, low: Tensor, high: Tensor, z: Tensor, y: Tensor) -> _State:
        one = torch.ones_like(functional[:, :1])
        return cls(functional, low, high, z, y, z, y, z, y, one, 0 * one, torch.inf * one, torch.inf * one)

    def step(self, rows: Tensor, total: int) -> _State:
        """One primal-dual step, reflected and averaged with the anchor; or a restart from where it led."""
        z = torch.clamp(self.z + (self.functional - self.y @ rows.T) / self.weight, self.low, self.high)
        y = self.y + self.weight * ((2 * z - self.z) @ rows)
        size = self._distance(z - self.z, y - self.y, rows)
        first = torch.where(self.age == 0, size, self.first)
        again = self._restarts(size, first, total)
        share = 1 / (self.age + 2)
        return replace(
            self,
            z=torch.where(again, z, torch.lerp(2 * z - self.z, self.anchor_z, share)),
            y=torch.where(again, y, torch.lerp(2 * y - self.y, self.anchor_y, share)),
            next_z=z,
            next_y=y,
            anchor_z=torch.where(again, z, self.anchor_z),
            anchor_y=torch.where(again, y, self.anchor_y),
            weight=torch.where(again, self._balanced(z, y), self.weight),
            age=torch.where(again, 0, self.age + 1),
            first=first,
            last=size,
        )

    def _restarts(self, size: Tensor, first: Tensor, total: int) -> Tensor:
        """Enough was gained, or something was and now it grows, or the last restart is long ago."""
        stalled = (size <= 0.8 * first) & (size > self.last)
        return (self.age > 0) & ((size <= 0.2 * first) | stalled | (self.age >= 0.36 * total))

    def _distance(self, dz: Tensor, dy: Tensor, rows: Tensor) -> Tensor:
        """Length (n,1) of a step in the norm in which the method contracts."""
        crossed = (dy * (dz @ rows)).sum(-1, keepdim=True)
        squared = self.weight * _squares(dz) + _squares(dy) / self.weight - 2 * crossed
        return squared.clamp(min=0).sqrt()

    def _balanced(self, z: Tensor, y: Tensor) -> Tensor:
        """Primal weight moved (half way, in logarithms) to how far y went over how far z went since the restart."""
        far_z, far_y = _squares(z - self.anchor_z).sqrt(), _squares(y - self.anchor_y).sqrt()
        known = (far_z > 1e-12) & (far_y > 1e-12)
        return torch.where(known, torch.sqrt(self.weight * far_y / far_z.clamp(min=1e-12)), self.weight)

    def error(self, rows: Tensor) -> Tensor:
        """How far (n,) the value can be from the optimum, once what lies outside the kernel is projected away."""
        outside = self.next_z @ rows
        bound = upper_bound(self.functional, self.next_y, self.low, self.high, rows)
        slack = bound - (self.functional * self.next_z).sum(-1) + (self.next_y * outside).sum(-1)
        mending = torch.linalg.vector_norm(self.next_y, dim=-1) * torch.linalg.vector_norm(outside, dim=-1)
        return torch.maximum(slack, mending)

    def subset(self, keep: Tensor) -> _State:
        """The same state for the patches (n,) bool still to be solved."""
        return self if bool(keep.all()) else _State(*(value[keep] for value in vars(self).values()))


def _squares(values: Tensor) -> Tensor:
    return values.square().sum(-1, keepdim=True)
