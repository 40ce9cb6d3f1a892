"""Small models whose attention is sharp: at random it is almost uniform, its maps are flat, and mistakes hide."""

from __future__ import annotations

from typing import Any

import torch

from nullspace.model.vit import SplitViT

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10,
}  # fmt: skip


def tiny(name: str = "vit_tiny_patch16_224", **more: Any) -> SplitViT:
    """The model of this name with 16 patch tokens and random weights."""
    found = SplitViT.load(name, weights="random", model_args=TINY | more)
    with torch.no_grad():
        for parameter, weight in found.model.named_parameters():
            if "qkv.weight" in parameter or "head.weight" in parameter:
                weight.mul_(8)
    return found
