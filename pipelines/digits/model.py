"""A small ViT for 64x64 RGB digits whose patch embedding has a large kernel: 768 pixel values to 96 numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from timm.models.vision_transformer import VisionTransformer

ARCHITECTURE: dict[str, Any] = dict(
    img_size=64, patch_size=16, embed_dim=96, depth=4, num_heads=3, mlp_ratio=2.0, num_classes=10
)


def weights_path() -> Path:
    """Path of the trained weights that ship in this package."""
    return Path(__file__).with_name("digits_vit.safetensors")


# `register_model` looks for this name in the module of the entry point.
default_cfgs = generate_default_cfgs(
    {
        "nullspace_digits_vit": dict(
            file=str(weights_path()),
            num_classes=10,
            input_size=(3, 64, 64),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="bilinear",
            crop_pct=1.0,
            fixed_input_size=True,
            first_conv="patch_embed.proj",
            classifier="head",
            license="apache-2.0",
        )
    }
)


def nullspace_digits_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT of depth 4 and width 96 with 16x16 patches: (B,3,64,64) to (B,10) logits; patch-embedding nullity 672."""
    return build_model_with_cfg(VisionTransformer, "nullspace_digits_vit", pretrained, **{**ARCHITECTURE, **kwargs})


def register() -> None:
    """Add the model to timm's registry unless it is there."""
    if not is_model("nullspace_digits_vit"):
        register_model(nullspace_digits_vit)
