"""The largest scale within epsilon, found by bisection and true to what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.radius import measure, null_radius
from tests.nullspace.reacting import learner


def test_radius_is_the_largest_scale_within_epsilon(data: EncoderData) -> None:
    noise = learner(data).noise
    data = replace(data, batch_size=20)
    found = null_radius(data, noise, epsilon=0.05)
    assert 0 < found.scale < 4 and not found.capped and found.n == 96 and len(found.measurements) <= 14
    assert found.probability_change <= 0.05
    again = measure(replace(data, batch_size=64), noise, scale=found.scale)
    assert again.probability_change == pytest.approx(found.probability_change, rel=1e-4)
    assert again.agreement == found.agreement
    beyond = [trial for trial in found.measurements if trial.scale > found.scale]
    assert beyond and all(trial.probability_change > 0.05 for trial in beyond)
    assert beyond[0].scale <= 1.04 * found.scale
    assert found == null_radius(data, noise, epsilon=0.05)


def test_radius_ends(data: EncoderData) -> None:
    noise = learner(data).noise
    capped = null_radius(data, noise, epsilon=5.0, max_scale=3.0)
    assert capped.capped and capped.scale == 3.0
    nothing = null_radius(data, noise, epsilon=1e-12)
    assert nothing.scale == 0.0 and not nothing.capped
    assert nothing.probability_change == nothing.measurements[0].probability_change > 1e-12
    small = null_radius(data, 10 * noise, epsilon=0.05)
    assert 0 < small.scale < 0.1


def test_radius_needs_no_gradient_and_checks_its_input(data: EncoderData) -> None:
    noise = learner(data).noise.requires_grad_()
    null_radius(data, noise, epsilon=0.05)
    assert noise.grad is None
    with pytest.raises(NullspaceError, match="expected noise of shape"):
        null_radius(data, noise[:3], epsilon=0.05)
    with pytest.raises(NullspaceError, match="epsilon > 0"):
        null_radius(data, noise, epsilon=0.0)
    with pytest.raises(NullspaceError, match="not finite"):
        null_radius(data, noise * torch.nan, epsilon=0.05)
