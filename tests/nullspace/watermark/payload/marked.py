"""A small model with a kernel, and images to mark."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nullspace.model.vit import SplitViT

KEY = "a key for tests only"
SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 96, "num_heads": 3, "img_size": 128, "num_classes": 10}


def small_model(seed: int = 0) -> SplitViT:
    """64 patches of 16×16, read by 96 numbers each: a kernel of dimension 672."""
    return SplitViT.load("vit_tiny_patch16_224", weights="random", seed=seed, model_args=SMALL)


def pictures(count: int, size: int = 128, *, low: float = 0.1, high: float = 0.9, seed: int = 0) -> Tensor:
    """8-bit images (count,3,size,size) with structure at all scales, like photographs."""
    drawn = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, size, size)
    for cells in (4, 8, 16, 32, 64, size):
        coarse = torch.randn(count, 3, cells, cells, generator=drawn) / cells
        total += torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    flat = total.flatten(1)
    least, most = flat.amin(1)[:, None, None, None], flat.amax(1)[:, None, None, None]
    return ((low + (high - low) * (total - least) / (most - least)) * 255).round().to(torch.uint8)
