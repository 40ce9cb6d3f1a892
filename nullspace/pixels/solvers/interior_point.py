"""Bounded least squares by a primal-dual interior point method: for targets outside the image of the box.

There most pixels end on a bound, fewer stay inside than B has rows, and methods that only multiply by B crawl.
Mehrotra's predictor-corrector (1992) takes 10 to 20 steps whatever the conditioning; each solves (B^T B + Theta) d = g
with Theta diagonal, by Woodbury through the (r,r) matrix I + B Theta^-1 B^T.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.pixels.solvers.box_problem import BoxProblem

STEPS = 60
RIDGE = 1e-13  # of sigma_max^2, on a step's change only: bounds Theta^-1. 1e-10 costs digits at sigma ratios of 1e6
WORK_ELEMENTS = 1 << 24  # of the (patches,r,n) product formed at a time


def interior_point(problem: BoxProblem) -> tuple[Tensor, Tensor, Tensor]:
    """d (P,n), steps taken (P,) and whether solved (P,); of several solutions one away from the bounds is found."""
    best = torch.zeros_like(problem.low)
    excess = torch.full_like(problem.allowed, torch.inf)
    steps = torch.zeros(len(best), dtype=torch.long, device=best.device)
    todo = torch.arange(len(best), device=best.device)
    state = _Iterate.start(problem)
    for _ in range(STEPS):
        size, floor, solved = state.problem.solved(state.delta)
        better = (size - floor) < excess[todo]
        best[todo[better]], excess[todo[better]] = state.delta[better], (size - floor)[better]
        healthy = ~solved & torch.isfinite(state.delta).all(-1)
        if not bool(healthy.any()):
            break
        if not bool(healthy.all()):
            todo, state = todo[healthy], state.subset(healthy)
        steps[todo] += 1
        state = state.step()
    return best, steps, excess <= problem.allowed


@dataclass(frozen=True)
class _Iterate:
    """d strictly inside the box with the multipliers of both bounds, all (P,n); `open_` marks boxes of some width."""

    problem: BoxProblem
    delta: Tensor
    below: Tensor  # multiplier of delta >= low
    above: Tensor  # multiplier of delta <= high
    open_: Tensor

    @classmethod
    def start(cls, problem: BoxProblem) -> _Iterate:
        delta = (problem.low + problem.high) / 2
        gradient = -(problem.missing(delta) @ problem.rows.T)
        scale = gradient.abs().mean(-1, keepdim=True).clamp_min(1e-12)
        open_ = problem.high > problem.low
        return cls(problem, delta, gradient.clamp_min(0) + scale, (-gradient).clamp_min(0) + scale, open_)

    def subset(self, keep: Tensor) -> _Iterate:
        parts = (self.delta[keep], self.below[keep], self.above[keep], self.open_[keep])
        return _Iterate(self.problem.subset(keep), *parts)

    def step(self) -> _Iterate:
        """The predictor aims at complementarity 0; what it would reach says how far the corrector may aim."""
        room = self._room()
        solve = _Woodbury.of(self.problem.rows, self.below / room[0] + self.above / room[1] + RIDGE, self.open_)
        zero = torch.zeros((), dtype=self.delta.dtype, device=self.delta.device)
        guess = self._direction(solve, room, zero, zero)
        now, then = self._complementarity(), self._moved(guess, self._length(guess, room))._complementarity()
        aim = (then / now).pow(3) * now
        # Second order: what the guess's own product adds to the complementarity.
        change = self._direction(solve, room, aim - guess[0] * guess[1], aim + guess[0] * guess[2])
        return self._moved(change, (0.995 * self._length(change, room)).clamp_max(1))

    def _room(self) -> tuple[Tensor, Tensor]:
        down, up = self.delta - self.problem.low, self.problem.high - self.delta
        return torch.where(self.open_, down, 1), torch.where(self.open_, up, 1)

    def _complementarity(self) -> Tensor:
        """Mean product of room and multiplier (P,1): 0 at the solution."""
        down, up = self._room()
        product = torch.where(self.open_, down * self.below + up * self.above, 0).sum(-1, keepdim=True)
        return product / (2 * self.open_.sum(-1, keepdim=True)).clamp_min(1)

    def _direction(
        self, solve: _Woodbury, room: tuple[Tensor, Tensor], aim_below: Tensor, aim_above: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradient = -(self.problem.missing(self.delta) @ self.problem.rows.T)
        delta = solve(aim_below / room[0] - aim_above / room[1] - gradient)
        below = (aim_below - self.below * delta) / room[0] - self.below
        above = (aim_above + self.above * delta) / room[1] - self.above
        return delta, below, above

    def _length(self, change: tuple[Tensor, Tensor, Tensor], room: tuple[Tensor, Tensor]) -> Tensor:
        """The longest step (P,1), at most 1, that keeps rooms and multipliers non-negative."""
        delta, below, above = change
        pairs = ((room[0], delta), (room[1], -delta), (self.below, below), (self.above, above))
        ratios = [torch.where(self.open_ & (way < 0), -value / way, torch.inf) for value, way in pairs]
        return torch.stack([ratio.amin(-1, keepdim=True) for ratio in ratios]).amin(0).clamp_max(1)

    def _moved(self, change: tuple[Tensor, Tensor, Tensor], length: Tensor) -> _Iterate:
        delta, below, above = (
            old + length * way for old, way in zip((self.delta, self.below, self.above), change, strict=True)
        )
        delta = torch.maximum(torch.minimum(delta, self.problem.high), self.problem.low)
        return _Iterate(self.problem, delta, below, above, self.open_)


@dataclass(frozen=True)
class _Woodbury:
    """Solves (B^T B + Theta) d = g for every patch, d being 0 where the box has no width."""

    rows: Tensor
    inverse: Tensor  # (P,n), 1/Theta
    factor: Tensor  # (P,r,r), Cholesky factor of I + B Theta^-1 B^T

    @classmethod
    def of(cls, rows: Tensor, theta: Tensor, open_: Tensor) -> _Woodbury:
        inverse = torch.where(open_, 1 / theta, 0)
        chunk = max(1, WORK_ELEMENTS // max(1, rows.numel()))
        unit = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        factors = [
            torch.linalg.cholesky_ex(unit + (rows.T * part[:, None, :]) @ rows)[0] for part in inverse.split(chunk)
        ]
        return cls(rows, inverse, torch.cat(factors))

    def __call__(self, right: Tensor) -> Tensor:
        scaled = self.inverse * right
        inner = torch.cholesky_solve((scaled @ self.rows).unsqueeze(-1), self.factor).squeeze(-1)
        return scaled - self.inverse * (inner @ self.rows.T)
