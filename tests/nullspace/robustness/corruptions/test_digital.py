"""Brightness, contrast, pixels and JPEG are what matplotlib's HSV, a formula and Pillow give."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.corruption import Corruption, corrupted
from nullspace.robustness.corruptions.digital import brightness, contrast
from tests.nullspace.watermark.payload.marked import pictures

SAVED = pictures(1, 64, low=0, high=1)
IMAGE = SAVED[0].float() / 255
DRAWS = Draws(0, "test", ["a"])


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize(("severity", "more"), enumerate((0.1, 0.2, 0.3, 0.4, 0.5), start=1))
def test_brightness_adds_to_value_in_hsv(severity: int, more: float) -> None:
    image = IMAGE.clone()
    image[:, :4] = 0  # black becomes grey
    hsv = rgb_to_hsv(image.permute(1, 2, 0).double().numpy())
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    expected = hsv_to_rgb(hsv).transpose(2, 0, 1)
    np.testing.assert_allclose(brightness(image, severity, DRAWS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("severity", "kept"), enumerate((0.4, 0.3, 0.2, 0.1, 0.05), start=1))
def test_contrast_keeps_a_share_of_deviations(severity: int, kept: float) -> None:
    made, image = contrast(IMAGE, severity, DRAWS).double(), IMAGE.double()
    torch.testing.assert_close(made.mean(dim=(1, 2)), image.mean(dim=(1, 2)), rtol=0, atol=1e-6)
    torch.testing.assert_close(made.std(dim=(1, 2)), kept * image.std(dim=(1, 2)), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("severity", "quality"), enumerate((25, 18, 15, 10, 7), start=1))
def test_jpeg_is_pillows(severity: int, quality: int) -> None:
    written = io.BytesIO()
    pil(SAVED[0]).save(written, "JPEG", quality=quality)
    made = corrupted(SAVED, Corruption("jpeg_compression", severity), ["a"])
    assert torch.equal(made[0], tensor(Image.open(written)))


@pytest.mark.parametrize(("severity", "share"), enumerate((0.6, 0.5, 0.4, 0.3, 0.25), start=1))
def test_pixelate_is_pillows_box(severity: int, share: float) -> None:
    small = pil(SAVED[0]).resize((int(64 * share), int(64 * share)), Image.Resampling.BOX)
    made = corrupted(SAVED, Corruption("pixelate", severity), ["a"])
    assert torch.equal(made[0], tensor(small.resize((64, 64), Image.Resampling.BOX)))
