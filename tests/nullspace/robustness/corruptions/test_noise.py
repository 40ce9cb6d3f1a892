"""Noise has the moments of its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.robustness.corruptions.noise import gaussian_noise, impulse_noise, poisson, shot_noise

DRAWS = Draws(0, "test", ["a"])
GREY = torch.full((3, 200, 200), 102 / 255)
COUNT = GREY.numel()


def within(values: Tensor, expected: float, deviation: float) -> bool:
    """Whether the mean is within 4 standard errors of what it is to be."""
    return abs(float(values.double().mean()) - expected) < 4 * deviation / COUNT**0.5


@pytest.mark.parametrize(("severity", "sigma"), enumerate((0.08, 0.12, 0.18, 0.26, 0.38), start=1))
def test_gaussian_noise_is_normal(severity: int, sigma: float) -> None:
    noise = gaussian_noise(GREY, severity, DRAWS) - GREY
    assert within(noise, 0, sigma)
    assert within(noise.square(), sigma**2, 2**0.5 * sigma**2)
    assert stats.kstest(noise.flatten().numpy()[:5000] / sigma, "norm").pvalue > 1e-3


@pytest.mark.parametrize(("severity", "photons"), enumerate((60, 25, 12, 5, 3), start=1))
def test_shot_noise_has_mean_and_variance_of_photons(severity: int, photons: int) -> None:
    counts = shot_noise(GREY, severity, DRAWS) * photons
    mean = 0.4 * photons
    assert torch.allclose(counts, counts.round(), atol=1e-4)
    assert within(counts, mean, mean**0.5)
    fourth = mean + 2 * mean**2  # variance of the squared deviation
    assert within((counts - mean).square(), mean, fourth**0.5)


@pytest.mark.parametrize("photons", [60, 3])
def test_counts_are_the_inverse_of_the_distribution_function(photons: int) -> None:
    levels = torch.arange(256).repeat(3, 4, 1) / 255
    chance = Draws(1, "test", ["a"]).uniform(*levels.shape)[0]
    expected = stats.poisson.ppf(chance.double().numpy() + 2.0**-25, photons * np.round(levels.numpy() * 255) / 255)
    np.testing.assert_array_equal(poisson(levels, photons, chance), np.maximum(expected, 0))


@pytest.mark.parametrize(("severity", "share"), enumerate((0.03, 0.06, 0.09, 0.17, 0.27), start=1))
def test_half_of_the_impulses_are_black_and_half_white(severity: int, share: float) -> None:
    made = impulse_noise(GREY, severity, DRAWS)
    half = share / 2
    for value in (0, 1):
        assert within((made == value), half, (half * (1 - half)) ** 0.5)
    assert torch.equal(made[(made > 0) & (made < 1)].unique(), GREY.unique())
