"""Patch embeddings of every kind, patches, and scipy's answer, for the tests of lifting."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from nullspace.pixels.lift import PatchMap

STD = (0.229, 0.224, 0.225)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum(rows: int, columns: int, condition: float) -> Tensor:
    """A matrix with singular values from 1 down to 1/condition, as trained patch embeddings have."""
    left, _, right = torch.linalg.svd(draw(rows, columns, seed=3), full_matrices=False)
    return left * torch.logspace(0, -np.log10(condition), left.shape[1], dtype=torch.float64) @ right


MATRICES = {
    "wide": draw(8, 27),
    "wide-singular": draw(8, 3) @ draw(3, 27, seed=1),
    "square": draw(27, 27),
    "square-singular": draw(27, 9) @ draw(9, 27, seed=1),
    "tall": draw(40, 27),
    "tall-singular": draw(40, 5) @ draw(5, 27, seed=1),
    "one-row": draw(1, 27),
    "repeated-rows": draw(4, 27).repeat(3, 1),
    "zero-columns": torch.cat([draw(10, 20), torch.zeros(10, 7, dtype=torch.float64)], dim=1),
    "ill-conditioned": spectrum(12, 27, 400.0),
    "very-ill-conditioned": spectrum(20, 27, 1e6),
}


def saturated(count: int, size: int, seed: int = 0) -> Tensor:
    """Patches of which a third of all pixels are 0 or 1, as in real photographs."""
    values = torch.rand(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (values * 1.5 - 0.25).clamp(0, 1)


def reachable(mapping: PatchMap, patches: Tensor, seed: int = 5, amount: float = 0.2) -> Tensor:
    """Token noise of an allowed change of these patches."""
    return mapping.tokens((patches + amount * draw(*patches.shape, seed=seed)).clamp(0, 1) - patches)


def reference(matrix: Tensor, noise: Tensor, low: Tensor, high: Tensor) -> float:
    """The least residual by scipy, for one patch; pixels without any room are left out, as it wants low < high."""
    room = (high > low).numpy()
    found = scipy.optimize.lsq_linear(
        matrix.numpy()[:, room], noise.numpy(), bounds=(low.numpy()[room], high.numpy()[room]), tol=1e-13, method="bvls"
    )
    return float(np.linalg.norm(found.fun))
