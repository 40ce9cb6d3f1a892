"""Iterations that several projections share: conjugate gradients, and accelerated ascent with restarts, for batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def conjugate_gradients(
    apply: Map,
    right: Tensor,
    *,
    product: Callable[[Tensor, Tensor], Tensor],
    enough: Callable[[Tensor, Tensor], bool],
    iterations: int,
    precondition: Map = lambda residual: residual,
) -> tuple[Tensor, int]:
    """x with apply(x) = `right`, for a linear map that is symmetric and not negative, and the iterations used.

    `product` is the inner product of every system, to be broadcast against `right`: one number each solves a batch side
    by side. `enough(energy, first)` ends it, energy being the product of the residual with itself, preconditioned.
    """
    solution, residual = torch.zeros_like(right), right
    helped = precondition(residual)
    direction, energy = helped, product(residual, helped)
    first, tiny, used = energy, torch.finfo(energy.dtype).tiny, 0
    while used < iterations and not enough(energy, first):
        used += 1
        image = apply(direction)
        curvature = product(direction, image)
        step = torch.where(curvature > 0, energy / curvature.clamp(min=tiny), 0.0)
        solution, residual = solution + step * direction, residual - step * image
        helped = precondition(residual)
        following = product(residual, helped)
        direction = helped + following / energy.clamp(min=tiny) * direction
        energy = following
    return solution, used


@dataclass(frozen=True, eq=False)
class Ascent:
    """Multipliers (n,...) that climb a concave function by Nesterov's method, each of the n with restarts of its own.

    Gradients are asked for at `ahead`. `age` (n,1,...) counts steps since the last restart, in Nesterov's sequence.
    """

    multiplier: Tensor
    ahead: Tensor
    age: Tensor

    @classmethod
    def start(cls, multiplier: Tensor) -> Self:
        """At rest."""
        return cls(multiplier, multiplier, torch.ones_like(_products(multiplier, multiplier)))

    def climbed(self, gradient: Tensor, step: float) -> Self:
        """One step along the gradient; where the last movement no longer leads uphill its momentum is dropped."""
        following = self.ahead + step * gradient
        movement = following - self.multiplier
        uphill = _products(gradient, movement) >= 0
        age = torch.where(uphill, (1 + torch.sqrt(1 + 4 * self.age.square())) / 2, 1.0)
        momentum = torch.where(uphill, (self.age - 1) / age, 0.0)
        return type(self)(following, following + momentum * movement, age)

    def subset(self, keep: Tensor) -> Self:
        """Those of the n that an index or mask names."""
        return type(self)(self.multiplier[keep], self.ahead[keep], self.age[keep])


def _products(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=tuple(range(1, one.ndim)), keepdim=True)
