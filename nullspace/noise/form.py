"""The numbers an optimiser moves, and the noise they stand for: a whole tensor, or one of low rank, held to its norm.

Noise of rank k is coefficients (N,k) times directions (k,D): the directions are shared by all tokens, so that every
token of every image informs them. That is what carries over to images not learned from. A whole tensor (N,D) has
more freedom than some hundred images can decide: on deit_tiny it fits them and gains little on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.metrics.norms import effective, hold_token_norm

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class NoiseForm:
    """Noise (N,D), or (n,N,D) one per image, every token of Euclidean norm `norm`; `rank` None is a whole tensor.

    `shift_invariant`: the part along (1,…,1) of each token does nothing and is left out.
    """

    norm: float
    rank: int | None
    shift_invariant: bool

    def parameters_of(self, noise: Tensor) -> Parameters:
        """Parameters of the given noise, or of the nearest noise of this rank.

        A noise of smaller rank gets coefficients of 0 for the directions it lacks, which learning then finds.
        """
        if self.rank is None:
            return {"noise": self._held(noise)}
        left, size, right = torch.linalg.svd(noise.double().cpu(), full_matrices=False)  # CPU: equal on every device
        k = self.rank
        scale = float(size[:k].norm()) / (noise.shape[-2] * k) ** 0.5  # root mean square of the coefficients becomes 1
        factors = {"coefficients": left[:, :k] * (size[:k] / scale), "directions": right[:k] * scale}
        return {name: factor.to(noise.device, noise.dtype).contiguous() for name, factor in factors.items()}

    def shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters of noise of a shape (N,D) or (n,N,D)."""
        if self.rank is None:
            return {"noise": shape}
        return {"coefficients": (shape[-2], self.rank), "directions": (self.rank, shape[-1])}

    def value(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The noise that parameters stand for; differentiable."""
        if self.rank is None:
            return self._held(parameters["noise"])
        return self._held(parameters["coefficients"] @ parameters["directions"])

    def _held(self, noise: Tensor) -> Tensor:
        return hold_token_norm(effective(noise, self.shift_invariant), self.norm)
