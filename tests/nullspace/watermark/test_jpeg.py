"""The part of a kernel that JPEG's 4:2:0 leaves in it, and JPEG itself as the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.kernel.patch_kernel import PatchKernel, patch_kernel
from nullspace.kernel.shift import exact_kernel
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from nullspace.pixels.lift import patch_map
from nullspace.watermark.certify import token_changes
from nullspace.watermark.distortions import distorted, distortion_named
from nullspace.watermark.jpeg import jpeg_kernel, subsampled
from nullspace.watermark.visible.visible import embed

TINY: dict[str, Any] = {
    "depth": 1, "embed_dim": 48, "num_heads": 3, "img_size": 64, "patch_size": 16, "num_classes": 10,
}  # fmt: skip


def loaded(**changed: Any) -> SplitViT:
    return SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={**TINY, **changed})


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return loaded()


@pytest.fixture(scope="module")
def kernel(model: SplitViT) -> PatchKernel:
    return patch_kernel(model)


def smooth(count: int = 2, size: int = 64) -> Tensor:
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    return from_uint8(round_to_uint8(torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")))


def test_subsampling_is_what_jpeg_does_to_fine_colours() -> None:
    images = smooth()
    change = 0.15 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    pixels = round_to_uint8((images + change).clamp(0, 1))
    files = from_uint8(distorted(pixels, distortion_named("jpeg_100")))
    expected = subsampled(from_uint8(pixels))
    inside = (expected > 0.02) & (expected < 0.98)  # JPEG clips what the colours push out of the range
    away = (files - expected)[inside].abs()
    assert float(away.mean()) < 1.5 / 255 < 0.1 * float((from_uint8(pixels) - expected).abs().mean())


def test_grey_is_left_alone() -> None:
    grey = torch.rand(2, 1, 16, 16, dtype=torch.float64).expand(-1, 3, -1, -1)
    torch.testing.assert_close(subsampled(grey), grey, atol=1e-6, rtol=0)


def test_its_directions_are_in_the_kernel_before_and_after(model: SplitViT, kernel: PatchKernel) -> None:
    part, matrix = jpeg_kernel(model, kernel), patch_map(model).matrix
    assert kernel.nullity // 2 < part.nullity < kernel.nullity and part.rank + part.nullity == part.patch_dim
    basis = part.basis().T
    assert float((basis @ matrix.T).abs().max()) < 1e-12
    after = subsampled(basis.reshape(-1, 3, 16, 16)).flatten(1)
    assert float((after @ matrix.T).abs().max()) < 1e-6 * float(matrix.norm())
    torch.testing.assert_close(kernel.project(basis), basis, atol=1e-10, rtol=0)


def test_where_little_is_left_at_most_half_is_given_up() -> None:
    wide = loaded(embed_dim=384)
    kernel = patch_kernel(wide)
    part = jpeg_kernel(wide, kernel)
    assert (kernel.nullity, part.nullity) == (384, 192)
    basis, matrix = part.basis().T, patch_map(wide).matrix
    lost = [
        float(((each - subsampled(each.reshape(-1, 3, 16, 16)).flatten(1)) @ matrix.T).norm()) / len(each) ** 0.5
        for each in (basis, kernel.basis().T)
    ]
    assert lost[0] < 0.6 * lost[1]


def test_a_kernel_too_small_or_patches_of_odd_size_are_left_as_they_are() -> None:
    square = loaded(embed_dim=768, num_heads=4)
    kernel = exact_kernel(square)
    assert kernel.nullity == 1 and jpeg_kernel(square, kernel) is kernel
    odd = loaded(patch_size=7, img_size=56)
    assert jpeg_kernel(odd, patch_kernel(odd)).nullity == patch_kernel(odd).nullity


@pytest.mark.parametrize("quality", [95, 75])
def test_a_mark_in_it_is_noticed_less_as_jpeg_and_still_seen(
    model: SplitViT, kernel: PatchKernel, quality: int
) -> None:
    images, alpha, mark = smooth(), torch.zeros(64, 64), torch.ones(3, 64, 64)
    alpha[16:24, 4:60] = alpha[4:60, 28:36] = 0.9
    moved, seen = [], []
    for within in (None, kernel):
        pixels = round_to_uint8(embed(model, kernel, images, mark, alpha, within=within).marked)
        files = [
            from_uint8(distorted(each, distortion_named(f"jpeg_{quality}")))
            for each in (round_to_uint8(images), pixels)
        ]
        moved.append(float(token_changes(model, patch_map(model), *files).square().mean().sqrt()))
        seen.append(float((from_uint8(pixels) - images).square().mean().sqrt()))
    assert moved[0] < (0.6 if quality == 95 else 0.85) * moved[1]
    assert seen[0] > 0.6 * seen[1]
