"""Noise from the kernel and its controls: drawn per image, of equal norm, the same on any worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nullspace.kernel.patch_kernel import patch_kernel
from nullspace.model.vit import SplitViT
from pipelines.evaluations.pixel_noise import CONDITIONS, KernelNoise
from tests.pipelines import tiny

IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny.spec().load("cpu")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(tiny.digits().images[:3].copy()).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def kernel_noise(model: SplitViT) -> Iterator[KernelNoise]:
    yield KernelNoise(model, patch_kernel(model), 1.5, seed=4)


def test_kernel_noise_is_exactly_invisible(model: SplitViT, images: torch.Tensor, kernel_noise: KernelNoise) -> None:
    noised = kernel_noise.images("exact", images, IDS, kernel_noise.draw(IDS))
    torch.testing.assert_close(kernel_noise.rms_of(noised - images), torch.full((3,), 1.5), rtol=1e-5, atol=0)
    clean, after = model.tokens(images), model.tokens(noised, check_range=False)
    assert (after - clean).abs().max() < 1e-4 * clean.abs().max()


@pytest.mark.parametrize("condition", ["permuted", "gaussian"])
def test_pixel_controls_have_the_rms_of_the_kernel_noise(
    condition: str, model: SplitViT, images: torch.Tensor, kernel_noise: KernelNoise
) -> None:
    change = kernel_noise.images(condition, images, IDS, kernel_noise.draw(IDS)) - images
    torch.testing.assert_close(kernel_noise.rms_of(change), torch.full((3,), 1.5), rtol=1e-5, atol=0)
    clean, after = model.tokens(images), model.tokens(images + change, check_range=False)
    assert (after - clean).norm() > 0.3 * clean.norm(), "the model does see it"


def test_permuted_pixels_are_the_elements_of_the_kernel_noise(images: torch.Tensor, kernel_noise: KernelNoise) -> None:
    # All three channels of the digits model have one std, so normalised and pixel units permute alike.
    exact, permuted = (
        kernel_noise.images(condition, torch.zeros_like(images), IDS, kernel_noise.draw(IDS))
        for condition in ("exact", "permuted")
    )
    assert not torch.allclose(exact, permuted)
    torch.testing.assert_close(permuted[0].flatten().sort().values, exact[0].flatten().sort().values)


def test_noise_in_the_box_is_a_picture_one_can_save(images: torch.Tensor, kernel_noise: KernelNoise) -> None:
    inside = kernel_noise.images("in_box", images, IDS, kernel_noise.draw(IDS))
    assert float(inside.min()) >= 0 and float(inside.max()) <= 1
    torch.testing.assert_close(inside * 255, (inside * 255).round(), rtol=0, atol=1e-4)
    assert not torch.allclose(inside, images)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_an_image_gets_the_same_noise_in_any_batch(
    condition: str, images: torch.Tensor, kernel_noise: KernelNoise
) -> None:
    together = kernel_noise.images(condition, images, IDS, kernel_noise.draw(IDS))
    alone = kernel_noise.images(condition, images[1:2], ["b"], kernel_noise.draw(["b"]))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-5)
