"""The share of natural patches in a kernel: limits, a sample, and real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from nullspace.kernel.natural import COLOURS, natural_share, patch_covariance
from nullspace.kernel.patch_kernel import kernel_of, patch_kernel
from nullspace.model.patches import patchify
from nullspace.model.vit import SplitViT

STD = (1.0, 1.0, 1.0)


def drawn(rows: int, patch: int = 4) -> torch.Tensor:
    return torch.randn(rows, 3, patch, patch, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)


def test_the_covariance_is_that_of_random_fields_of_the_spectrum() -> None:
    space = patch_covariance((2, 3), (16, 12))
    assert torch.allclose(space, space.T) and torch.allclose(space.diagonal(), torch.ones(6, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh(space)[0]) > 0
    assert float(space[0, 1]) > float(space[0, 2]) > 0  # nearer pixels are more alike


def test_a_model_that_sees_everything_or_nothing() -> None:
    assert natural_share(kernel_of(drawn(48), STD), (4, 4), (32, 32)) == pytest.approx(0, abs=1e-12)
    assert natural_share(kernel_of(torch.zeros(5, 3, 4, 4), STD), (4, 4), (32, 32)) == 1


def test_seeing_means_takes_most_of_the_energy_and_a_checkerboard_hardly_any() -> None:
    mean = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(2)
    checkerboard = mean * signs[:, None] * signs
    seen = [1 - natural_share(kernel_of(each, STD), (4, 4), (64, 64)) for each in (mean, checkerboard)]
    assert seen[0] > 0.6 and seen[1] < 1e-2
    # along the mean of all colours the variance is that of the correlations
    space = patch_covariance((4, 4), (64, 64))
    assert seen[0] == pytest.approx(
        float(torch.tensor(COLOURS, dtype=torch.float64).sum() * space.sum() / 48 / 48), rel=1e-9
    )


def test_the_share_is_that_of_a_sample() -> None:
    kernel = kernel_of(drawn(20), STD)
    colours = torch.linalg.cholesky(torch.tensor(COLOURS, dtype=torch.float64))
    space = torch.linalg.cholesky(patch_covariance((4, 4), (32, 32)))
    noise = torch.randn(40_000, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    patches = (colours @ noise @ space.T).flatten(1)
    sampled = 1 - float((patches @ kernel.row_space).square().sum() / patches.square().sum())
    assert natural_share(kernel, (4, 4), (32, 32)) == pytest.approx(sampled, rel=0.03)


@pytest.mark.real
def test_real_photographs_agree(assets: Path) -> None:
    model = SplitViT.load("deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors")
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))[:60]
    transform = model.preprocessing.transform()
    images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files]).double() / 255
    patches = patchify(images, (16, 16))
    patches = patches - patches.mean(dim=(0, 1))
    kernel = patch_kernel(model)
    real = 1 - float((patches @ kernel.row_space).square().sum() / patches.square().sum())
    assert natural_share(kernel, (16, 16), (224, 224)) == pytest.approx(real, rel=0.3)
