"""Bounded least squares by proximal points and semismooth Newton on the dual: for targets the box can reach.

Each proximal step is min |B d - b|^2/2 + eps |d - d_k|^2/2 over the box. Its dual in y, the part of b that is left, is
smooth and concave: d(y) = clip(d_k + B^T y / eps), gradient b - y - B d(y), generalised Hessian -(I + B F B^T / eps)
with F the pixels inside the box (Li, Sun, Toh 2018, who solve the lasso so). When F is everything the Hessian is
diagonal in the coordinates of `BoxProblem`; preconditioned by that diagonal, conjugate gradients take few steps however
ill-conditioned B is, as long as enough pixels stay inside. The first step starts from 0, hence a small d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.kernel.solvers import conjugate_gradients
from nullspace.pixels.solvers.box_problem import BoxProblem

FIRST_EPS, LAST_EPS = 1e-3, 1e-9  # of sigma_max^2; smaller ones cost digits in float64
NEWTON_STEPS, CG_STEPS = 15, 30  # per proximal step; reachable targets take about 5 and 4
STALL = 0.5  # a proximal step that leaves more than this of the residual, and
SLOWER = 10  # more than this times what it would leave without a box, is not getting there


def proximal_newton(problem: BoxProblem) -> tuple[Tensor, Tensor, Tensor]:
    """d (P,n), Newton steps taken (P,) and whether solved (P,): patches out of reach are given up early."""
    delta = torch.zeros_like(problem.low)
    steps = torch.zeros(len(delta), dtype=torch.long, device=delta.device)
    size, _, done = problem.solved(delta)
    todo = (~done).nonzero().squeeze(-1)
    eps, left = FIRST_EPS, size[todo]
    while len(todo) and eps >= LAST_EPS:
        part = problem.subset(todo)
        shrink = eps / (eps + problem.sigma.square())  # without a box, and per direction
        hoped = torch.linalg.vector_norm(part.missing(delta[todo]) * shrink, dim=-1)
        delta[todo], used = _proximal_step(part, delta[todo], eps)
        steps[todo] += used
        size, floor, solved = part.solved(delta[todo])
        done[todo] = solved
        # A proved floor above what is allowed means that the target cannot be reached, a stall that it hardly can.
        go_on = ~solved & (floor <= part.allowed) & ((size <= STALL * left) | (size <= SLOWER * hoped))
        todo, left, eps = todo[go_on], size[go_on], eps / 10
    return delta, steps, done


def _proximal_step(problem: BoxProblem, centre: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The proximal point (P,n) of `centre`, and the Newton steps of every patch."""
    answer = centre.clone()
    steps = torch.zeros(len(centre), dtype=torch.long, device=centre.device)
    todo = torch.arange(len(centre), device=centre.device)
    dual = _Dual.start(problem, centre, eps)
    for _ in range(NEWTON_STEPS):
        inside, gradient = dual.gradient()
        size, left = (torch.linalg.vector_norm(part, dim=-1) for part in (gradient, dual.y))
        answer[todo] = dual.point()
        going = size > 0.01 * left + 0.1 * dual.problem.allowed
        if not bool(going.any()):
            break
        if not bool(going.all()):
            todo, dual, inside, gradient = todo[going], dual.subset(going), inside[going], gradient[going]
        steps[todo] += 1
        dual = dual.ascend(dual.newton_direction(inside, gradient), gradient)
    else:
        answer[todo] = dual.point()
    return answer, steps


@dataclass(frozen=True)
class _Dual:
    """The dual of one proximal step at y (P,r); `lifted` is B^T y, kept so that a line search needs no product."""

    problem: BoxProblem
    centre: Tensor
    eps: float
    y: Tensor
    lifted: Tensor

    @classmethod
    def start(cls, problem: BoxProblem, centre: Tensor, eps: float) -> _Dual:
        y = torch.zeros_like(problem.target)
        return cls(problem, centre, eps, y, torch.zeros_like(centre))

    def subset(self, keep: Tensor) -> _Dual:
        return _Dual(self.problem.subset(keep), self.centre[keep], self.eps, self.y[keep], self.lifted[keep])

    def point(self) -> Tensor:
        return (self.centre + self.lifted / self.eps).clamp(self.problem.low, self.problem.high)

    def gradient(self) -> tuple[Tensor, Tensor]:
        """Which pixels are inside the box (P,n), as numbers, and the gradient (P,r)."""
        free = self.centre + self.lifted / self.eps
        inside = ((free > self.problem.low) & (free < self.problem.high)).to(free)
        point = free.clamp(self.problem.low, self.problem.high)
        return inside, self.problem.missing(point) - self.y

    def newton_direction(self, inside: Tensor, gradient: Tensor) -> Tensor:
        """Solves (eps I + B F B^T) p = eps gradient by preconditioned conjugate gradients, one system per patch."""
        rows, scale = self.problem.rows, self.eps + self.problem.sigma.square()
        found, _ = conjugate_gradients(
            lambda search: self.eps * search + (inside * (search @ rows.T)) @ rows,
            self.eps * gradient,
            product=lambda one, other: (one * other).sum(-1, keepdim=True),
            # 1e-2 of the residual: an inexact Newton step is as good far from the solution
            enough=lambda energy, first: bool((energy <= 1e-4 * first).all()),
            iterations=CG_STEPS,
            precondition=lambda residual: residual / scale,
        )
        return found

    def ascend(self, direction: Tensor, gradient: Tensor) -> _Dual:
        """One step along `direction`, halved per patch until the dual rises enough (Armijo)."""
        lifted = direction @ self.problem.rows.T
        value, slope = self._value(self.y, self.lifted), (direction * gradient).sum(-1)
        length = torch.ones_like(value)
        for _ in range(20):
            y, up = self.y + length[:, None] * direction, self.lifted + length[:, None] * lifted
            short = self._value(y, up) < value + 1e-4 * length * slope - 1e-13 * value.abs()
            if not bool(short.any()):
                break
            length = torch.where(short, length / 2, length)
        return _Dual(self.problem, self.centre, self.eps, y, up)

    def _value(self, y: Tensor, lifted: Tensor) -> Tensor:
        point = (self.centre + lifted / self.eps).clamp(self.problem.low, self.problem.high)
        near = self.eps / 2 * (point - self.centre).square() - lifted * point
        return (y * self.problem.target).sum(-1) - y.square().sum(-1) / 2 + near.sum(-1)
