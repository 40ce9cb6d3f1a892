"""A small Vision Transformer with random weights."""

from __future__ import annotations

from typing import Any

from nullspace.model.vit import SplitViT


def tiny_vit(**changed: Any) -> SplitViT:
    """One block of width 48 on images of 32 pixels in patches of 8, with 10 classes; `changed` are timm's arguments."""
    args = {"depth": 1, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10}
    return SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={**args, **changed})
