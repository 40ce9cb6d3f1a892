"""What noise in the kernel of the patch embedding cannot change in any explanation, over many models of timm.

The gradient by the pixels lies in the embedding's row space, so it stays, as does all that follows from tokens; the
gradient times the noise sums to 0 over every patch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.attribution.gradients import gradient, input_times_gradient, integrated_gradients, on_tokens
from nullspace.attribution.maps import map_named
from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.model.vit import SplitViT

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
NAMES: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {},
    "deit_tiny_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "deit3_small_patch16_224": {},
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_small_patch16_rope_224": {},
    "vit_base_patch16_clip_224": {},
    "eva02_tiny_patch14_224": {},
    "vit_base_patch16_siglip_224": {},
}


def tolerance_of(dtype: torch.dtype) -> float:
    return 1e-12 if dtype == torch.float64 else 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_kernel_noise_leaves_explanations_as_they_were(name: str, dtype: torch.dtype) -> None:
    model = SplitViT.load(name, weights="random", model_args=SMALL | {"num_classes": 10} | NAMES[name]).to(dtype)
    kernel = patch_kernel(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    drawn = model.patchify(torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64))
    noise = model.unpatchify(kernel.project(drawn))
    images, noised = images.to(dtype), (images + 0.5 * noise).to(dtype)
    classes, limit = torch.tensor([2, 5]), tolerance_of(dtype)

    def unequal(one: Tensor, other: Tensor) -> float:
        return float((one - other).norm() / one.norm())

    assert unequal(images, noised) > 0.5
    assert unequal(model(images), model(noised, check_range=False)) < 10 * limit
    assert unequal(gradient(model, images, classes), gradient(model, noised, classes)) < 10 * limit
    for found in (input_times_gradient, integrated_gradients):
        one, other = (found(model, each, classes) for each in (images, noised))
        assert unequal(one, other) > 0.1  # pixel by pixel they are another map
        assert unequal(on_tokens(model, one), on_tokens(model, other)) < 100 * limit
    for name_of_map in ("attention_rollout", "gradient_weighted_attention", "grad_cam"):
        assert unequal(*(map_named(name_of_map)(model, each, classes) for each in (images, noised))) < 10 * limit
