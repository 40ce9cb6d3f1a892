"""Measures of pictures against a library's."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
    visual_information_fidelity,
)

from pipelines.evaluations.image_quality import psnr, ssim
from pipelines.evaluations.visual_information import vif


@pytest.mark.parametrize("size", [(64, 64), (40, 57), (12, 6)])
def test_psnr_and_ssim_are_those_of_torchmetrics(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, *size, generator=generator)
    changed = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    images[3], changed[3] = 0.5, 0.5  # flat and equal
    expected = structural_similarity_index_measure(changed, images, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(changed, images), torch.as_tensor(expected), atol=1e-5, rtol=1e-5)
    expected = peak_signal_noise_ratio(changed, images, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(changed, images), torch.as_tensor(expected))
    assert float(psnr(changed, images)[3]) == float("inf")


@pytest.mark.parametrize("size", [(224, 224), (41, 57)])
def test_visual_information_is_that_of_torchmetrics(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, *size, generator=generator)
    changed = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    images[0, :, :30] = changed[1, :, :30] = 0.5  # flat before, or after
    changed[2] = 1 - images[2]
    changed[3] = images[3]
    expected = visual_information_fidelity(255 * changed, 255 * images, reduction="none")
    torch.testing.assert_close(vif(changed, images), torch.as_tensor(expected), atol=1e-4, rtol=1e-4)


def test_pictures_too_small_for_scales_have_no_visual_information() -> None:
    assert vif(torch.zeros(2, 3, 40, 50), torch.zeros(2, 3, 40, 50)).isnan().all()
