"""Fog, snow, frost and elastic: against loops of the published code, and by what they must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.elastic import affine_of, elastic_transform
from nullspace.robustness.corruptions.frost import frost, texture
from nullspace.robustness.corruptions.plasma import plasma
from nullspace.robustness.corruptions.weather import fog, snow
from tests.nullspace.watermark.payload.marked import pictures

IMAGE = pictures(1, 64)[0].float() / 255
DRAWS = Draws(0, "test", ["a"])


def loops(side: int, decay: float, chance: np.ndarray) -> np.ndarray:
    """Diamond-square pixel by pixel, indices taken modulo the side; draws in the order of `plasma`."""
    field, step, size, used = np.zeros((side, side)), side, 100.0, 0
    while step >= 2:
        half, cells = step // 2, range(0, side, step)
        by = size**2 * chance[used : used + 3 * len(cells) ** 2].reshape(3, len(cells), len(cells))
        used += by.size
        for i, row in enumerate(cells):
            for j, column in enumerate(cells):
                ends = [field[(row + a) % side, (column + b) % side] for a in (0, step) for b in (0, step)]
                field[row + half, column + half] = np.mean(ends) + by[0, i, j]
        for i, row in enumerate(cells):
            for j, column in enumerate(cells):
                for number, (at, beside) in enumerate(
                    [((row, column + half), [(half, 0), (-half, 0), (0, half), (0, -half)]),
                     ((row + half, column), [(half, 0), (-half, 0), (0, half), (0, -half)])], start=1,
                ):  # fmt: skip
                    ends = [field[(at[0] + a) % side, (at[1] + b) % side] for a, b in beside]
                    field[at] = np.mean(ends) + by[number, i, j]
        step, size = half, size / decay
    field -= field.min()
    return field / field.max()


@pytest.mark.parametrize("decay", [1.4, 3.0])
def test_plasma_is_diamond_square(decay: float) -> None:
    chance = 2 * DRAWS.uniform(32 * 32)[0].double().numpy() - 1
    np.testing.assert_allclose(plasma((32, 32), decay, DRAWS), loops(32, decay, chance), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(plasma((20, 31), decay, DRAWS), plasma((32, 32), decay, DRAWS)[:20, :31])


@pytest.mark.parametrize(("severity", "strength"), enumerate((1.5, 2, 2.5, 2.5, 3), start=1))
def test_fog_lies_between_the_dimmed_image_and_white(severity: int, strength: float) -> None:
    most = float(IMAGE.max())
    scale = most / (most + strength)
    cloud = (fog(IMAGE, severity, DRAWS) / scale - IMAGE) / strength
    assert float(cloud.min()) > -1e-5 and float(cloud.max()) < 1 + 1e-5
    torch.testing.assert_close(cloud[0], cloud[2], rtol=0, atol=1e-5)


def test_snow_on_a_white_image_stays_white_and_is_the_same_upside_down() -> None:
    assert float(snow(torch.ones(3, 64, 64), 1, DRAWS).min()) >= 1
    black = snow(torch.zeros(3, 64, 64), 2, DRAWS)  # 0.3 of a grey of 1/2, and the streaks
    streaks = black - 0.3 * 0.5
    assert float(streaks.min()) > -1e-6 and 0.01 < float(streaks.mean()) < 0.5
    torch.testing.assert_close(streaks, streaks.flip(1, 2), rtol=0, atol=1e-6)


def test_frost_is_laid_over_with_the_published_shares() -> None:
    ice = texture((64, 64), DRAWS)
    assert float(ice.min()) >= 0 and float(ice.max()) <= 1 and float(ice.std()) > 0.03
    torch.testing.assert_close(frost(IMAGE, 2, DRAWS), 0.8 * IMAGE + 0.6 * ice)
    means = torch.stack([texture((64, 64), Draws(0, "panes", [str(n)])).mean() for n in range(100)]).double()
    expected = 0.65 * (0.86 + 0.96 + 1) / 3  # the middle of 0.4 to 0.9, under the tint
    assert abs(float(means.mean()) - expected) < 4 * float(means.std()) / 10


def test_the_affine_map_takes_three_points_where_they_belong() -> None:
    by = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]])
    matrix = affine_of(by, (90, 60))
    old = np.array([[50.0, 65.0], [50.0, 25.0], [10.0, 25.0]])  # 20 pixels around the middle (30, 45)
    np.testing.assert_allclose((old + by) @ matrix[:, :2].T + matrix[:, 2], old, atol=1e-9)
    np.testing.assert_allclose(affine_of(np.zeros((3, 2)), (90, 60)), [[1, 0, 0], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("severity", [2, 5])
def test_elastic_is_what_scipy_does_with_the_same_field(severity: int) -> None:
    far, smooth, affine = {2: (2, 0.08, 0.2), 5: (0.12, 0.01, 0.02)}[severity]
    side = 244 / 224 * 64
    matrix = affine_of(affine * side * (2 * DRAWS.uniform(3, 2)[0].double().numpy() - 1), (64, 64))
    rows, columns = np.mgrid[:64, :64]
    x, y = (row[0] * columns + row[1] * rows + row[2] for row in matrix)
    field = 2 * DRAWS.stream(1).uniform(2, 64, 64)[0].double().numpy() - 1
    by = far * side * ndimage.gaussian_filter(field, smooth * side, mode="reflect", truncate=3, axes=(1, 2))
    made = elastic_transform(IMAGE, severity, DRAWS)
    for channel, own in zip(IMAGE.double().numpy(), made, strict=True):
        turned = ndimage.map_coordinates(channel, [y, x], order=1, mode="mirror")
        expected = ndimage.map_coordinates(turned, [rows + by[1], columns + by[0]], order=1, mode="reflect")
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-3)
