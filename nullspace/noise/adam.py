"""Adam as a value: parameters with their running means, and the step that makes the next value of them.

Without weight decay, which would shrink the noise, and with rates relative to the size of what is learned. Written out
so that its whole state is plain tensors and one count, which resume bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

BETAS = (0.9, 0.99)
TINY = 1e-30  # keeps 0/0 away; gradients may be of any size, so nothing larger may be added to them


@dataclass(frozen=True)
class Adam:
    """Parameters by name, the running means of their gradients and of the squares of those, and the steps taken."""

    parameters: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    count: int

    @classmethod
    def begin(cls, parameters: Mapping[str, Tensor]) -> Adam:
        """Before the first step."""
        first, second = ({name: torch.zeros_like(value) for name, value in parameters.items()} for _ in range(2))
        return cls(dict(parameters), first, second, 0)

    def step(self, gradients: Mapping[str, Tensor], rate: float) -> Adam:
        """The next value: each parameter moves by about `rate` times its own root mean square, element by element."""
        after = Adam({}, {}, {}, self.count + 1)
        for name, gradient in gradients.items():
            first = after.first[name] = BETAS[0] * self.first[name] + (1 - BETAS[0]) * gradient
            second = after.second[name] = BETAS[1] * self.second[name] + (1 - BETAS[1]) * gradient.square()
            scale = (second / (1 - BETAS[1] ** after.count)).sqrt() + TINY
            direction = (first / (1 - BETAS[0] ** after.count)) / scale
            before = self.parameters[name]
            after.parameters[name] = before - rate * before.square().mean().sqrt() * direction
        return after

    def is_finite(self) -> bool:
        """Whether every parameter is a number; a gradient of NaN shows here after one step."""
        return all(bool(torch.isfinite(value).all()) for value in self.parameters.values())
