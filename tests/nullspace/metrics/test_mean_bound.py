"""The upper bound of a mean: valid as often as it says for hard distributions, exact where it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nullspace.errors import NullspaceError
from nullspace.metrics.mean_bound import upper_mean_bound
from nullspace.metrics.sample_size import epsilon_within_reach, images_needed, require_enough, values_needed

# Of mean 0.01, in [0,1]: rare and total, rare and half, heavy near 0, light.
DRAWS = {
    "rare": lambda source, size: (source.random(size) < 0.01).astype(float),
    "halves": lambda source, size: (source.random(size) < 0.02) * 0.5,
    "spiky": lambda source, size: source.beta(0.05, 4.95, size),
    "light": lambda source, size: source.beta(2.0, 198.0, size),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_a_mean_at_the_target_is_passed_no_more_often_than_allowed(kind: str) -> None:
    source = np.random.default_rng(3)
    trials, confidence = 150, 0.9
    wrong = sum(
        upper_mean_bound(DRAWS[kind](source, 250), target=0.01, confidence=confidence) <= 0.01 for _ in range(trials)
    )
    assert wrong <= stats.binom.ppf(1 - 1e-6, trials, 1 - confidence)


@pytest.mark.parametrize("kind", DRAWS)
def test_a_small_mean_is_shown_to_be_small(kind: str) -> None:
    """Where Hoeffding's bound and the empirical Bernstein bound show nothing."""
    values = 0.15 * DRAWS[kind](np.random.default_rng(4), 1200)
    n = len(values)
    hoeffding = values.mean() + math.sqrt(math.log(20) / (2 * n))
    bernstein = values.mean() + math.sqrt(2 * values.var(ddof=1) * math.log(40) / n) + 7 * math.log(40) / (3 * (n - 1))
    assert values.mean() < upper_mean_bound(values, target=0.01) <= 0.01 < 0.015 * 0.5 + min(hoeffding, bernstein)


def test_zeros_give_the_bound_that_can_be_had_in_closed_form() -> None:
    for n in (10, 400):
        assert upper_mean_bound(np.zeros(n), target=0.5) == pytest.approx(20 ** (1 / n) - 1, rel=1e-6)


@settings(max_examples=25)
@given(st.floats(0.01, 0.9), st.floats(0.5, 0.999))
def test_values_needed_are_just_enough(target: float, confidence: float) -> None:
    n = values_needed(target, confidence=confidence)
    assert upper_mean_bound(np.zeros(n), target=target, confidence=confidence) <= target * (1 + 1e-9)
    if n > 1:
        assert upper_mean_bound(np.zeros(n - 1), target=target, confidence=confidence) > target * (1 - 1e-9)
    least = math.log(1 - confidence) / math.log(1 - target)
    assert n >= least, "fewer can show nothing, by any method"


def test_the_scale_of_the_values_does_not_matter() -> None:
    values = np.random.default_rng(0).beta(0.1, 3, 200)
    one = upper_mean_bound(values, target=0.1)
    assert upper_mean_bound(2 * values, target=0.2, largest=2) == pytest.approx(2 * one, rel=1e-9)


def test_images_needed_and_the_epsilon_within_reach_agree() -> None:
    assert images_needed(0.02) == 302 and images_needed(0.1) == 62
    for images in (5, 62, 302, 5000):
        reach = epsilon_within_reach(images)
        assert images_needed(reach) <= images < images_needed(0.9 * reach)


@pytest.mark.parametrize(
    ("values", "given", "match"),
    [
        ([], {"target": 0.1}, "at least one value"),
        ([0.5, 1.5], {"target": 0.1}, r"in \[0, 1\]"),
        ([0.5, math.nan], {"target": 0.1}, "NaN"),
        ([0.5], {"target": 1.0}, "target < 1"),
        ([0.5], {"target": 0.1, "confidence": 1.0}, "confidence < 1"),
    ],
)
def test_what_is_no_sample_is_refused(values: list[float], given: dict[str, float], match: str) -> None:
    with pytest.raises(NullspaceError, match=match):
        upper_mean_bound(values, **given)


def test_the_error_on_too_few_images_says_how_many_are_needed() -> None:
    with pytest.raises(NullspaceError, match=r"at least 302 .*<= 0.02 .*got 100; .*to 0.061 for 100"):
        require_enough(100, 0.02)
