"""A linear classifier of small images, of which every robust radius is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.metrics.draws import Draws

SIDE, COUNT, CLASSES = 8, 6, 5
IDS = [f"image {number}" for number in range(COUNT)]


@dataclass(frozen=True)
class Linear:
    """Logits W·x + b of images (n,3,8,8)."""

    weight: Tensor  # (K,3·8·8)
    bias: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T.to(images) + self.bias.to(images)

    def radius(self, images: Tensor, norm: str) -> Tensor:
        """The distance (n,) of the nearest other class: least margin over the dual norm of its weights."""
        logits = self(images.double())
        own = logits.argmax(dim=1)
        found = []
        for row, kind in zip(logits, own, strict=True):
            apart = (self.weight.double()[kind] - self.weight.double()).flatten(1)
            dual = apart.abs().sum(dim=1) if norm == "linf" else apart.norm(dim=1)
            found.append(torch.where(torch.arange(len(row)) == kind, torch.inf, (row[kind] - row) / dual).min())
        return torch.stack(found)


def linear(seed: int = 0, classes: int = CLASSES) -> Linear:
    drawn = torch.randn(classes, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(seed))
    return Linear(drawn, torch.zeros(classes))


def pictures(seed: int = 1, count: int = COUNT) -> Tensor:
    """Images in [.35,.65]: small changes do not meet the ends of the range."""
    return 0.35 + 0.3 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def draws_of(ids: list[str] = IDS) -> Draws:
    return Draws(0, "attacks", ids)


def unlabelled(count: int = COUNT) -> Tensor:
    return torch.full((count,), -1)
