"""Blurs are what scipy does with the same weights; their weights sum to 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.blur.defocus import defocus_blur, disk
from nullspace.robustness.corruptions.blur.filters import gaussian_blur
from nullspace.robustness.corruptions.blur.glass import copied
from nullspace.robustness.corruptions.blur.motion import moved, steps, weights
from nullspace.robustness.corruptions.blur.zoom import enlarged, zoom_blur
from tests.nullspace.watermark.payload.marked import pictures

IMAGE = pictures(1, 64)[0, :, :, :48].float() / 255
DRAWS = Draws(0, "test", ["a"])
NEAR = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize(("border", "mode"), [("edge", "nearest"), ("mirror", "reflect")])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.7, 4), (1.5, 4), (40, 3)])
def test_gaussian_blur_is_scipys(border: str, mode: str, sigma: float, truncate: float) -> None:
    made = gaussian_blur(IMAGE, sigma, border="edge" if border == "edge" else "mirror", truncate=truncate)
    expected = ndimage.gaussian_filter(IMAGE.double().numpy(), sigma, mode=mode, truncate=truncate, axes=(1, 2))
    np.testing.assert_allclose(made, expected, **NEAR)


@pytest.mark.parametrize(("severity", "radius", "sigma"), [(1, 3, 0.1), (3, 6, 0.5), (5, 10, 0.5)])
def test_defocus_is_a_convolution_with_a_disk(severity: int, radius: int, sigma: float) -> None:
    found = disk(radius, sigma)
    assert float(found.double().sum()) == pytest.approx(1, abs=1e-6)
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.T)
    assert found[len(found) // 2, len(found) // 2] == pytest.approx(1 / (math.pi * radius**2), rel=0.12)
    made = defocus_blur(IMAGE, severity, DRAWS)
    for channel, own in zip(IMAGE.double().numpy(), made, strict=True):
        expected = ndimage.convolve(channel, found.double().numpy(), mode="mirror")
        np.testing.assert_allclose(own, expected, **NEAR)


@pytest.mark.parametrize("degrees", [0, 45, -30, -135, 90])
def test_motion_is_a_correlation_along_a_line(degrees: float) -> None:
    radius, sigma = 5, 3.0
    strengths = weights(radius, sigma)
    assert sum(strengths) == pytest.approx(1) and strengths == sorted(strengths, reverse=True)
    line = np.zeros((4 * radius + 1, 4 * radius + 1))
    for strength, (down, right) in zip(strengths, steps(radius, degrees), strict=True):
        line[2 * radius + down, 2 * radius + right] += strength
    made = moved(IMAGE, radius, sigma, degrees)
    for channel, own in zip(IMAGE.double().numpy(), made, strict=True):
        np.testing.assert_allclose(own, ndimage.correlate(channel, line, mode="nearest"), **NEAR)


@pytest.mark.parametrize("factor", [1.0, 1.07, 1.31, 4.5])
def test_the_middle_is_enlarged_as_by_scipy(factor: float) -> None:
    height, width = IMAGE.shape[1:]
    kept = [math.ceil(side / factor) for side in (height, width)]
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    middle = IMAGE[:, top : top + kept[0], left : left + kept[1]].double().numpy()
    large = np.asarray(ndimage.zoom(middle, (1, factor, factor), order=1))
    top, left = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
    made = enlarged(IMAGE, factor)
    np.testing.assert_allclose(made, large[:, top : top + height, left : left + width], rtol=0, atol=1e-4)


def test_zoom_blur_is_the_mean_over_factors() -> None:
    factors = [1, 1.03, 1.06, 1.09, 1.12, 1.15, 1.18, 1.21, 1.24, 1.27, 1.3]
    versions = [IMAGE, *(enlarged(IMAGE, factor) for factor in factors)]
    torch.testing.assert_close(zoom_blur(IMAGE, 5, DRAWS), torch.stack(versions).mean(dim=0), **NEAR)


@pytest.mark.parametrize("farthest", [1, 3, 4])
def test_pixels_are_copied_as_by_the_published_loop(farthest: int) -> None:
    height, width = 40, 36
    away = torch.randint(-farthest, farthest, (2, height, width), generator=torch.Generator().manual_seed(farthest))
    expected = np.arange(height * width).reshape(height, width)
    for row in range(height - farthest, farthest, -1):
        for column in range(width - farthest, farthest, -1):
            down, right = (int(each) for each in away[:, row, column])
            expected[row, column] = expected[row + down, column + right]
    np.testing.assert_array_equal(copied(away, farthest).view(height, width), expected)


def test_blurs_keep_a_flat_image() -> None:
    flat = torch.full((3, 64, 64), 0.3)
    blurred: list[Tensor] = [gaussian_blur(flat, 2.0), defocus_blur(flat, 4, DRAWS), moved(flat, 15, 8.0, 20.0)]
    for made in (*blurred, zoom_blur(flat, 3, DRAWS)):
        torch.testing.assert_close(made, flat, **NEAR)
