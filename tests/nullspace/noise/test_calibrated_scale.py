"""The scale with a guarantee: the last one shown to be within epsilon when scales rise, whatever lies beyond."""

from __future__ import annotations

import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.mean_bound import upper_mean_bound
from nullspace.metrics.radius import changes, null_radius
from nullspace.model.encoder import Encoder
from nullspace.noise.calibrated_scale import calibrate_scale
from tests.nullspace.reacting import data_of, learner


@pytest.fixture(scope="module")
def data(encoder: Encoder) -> EncoderData:
    return data_of(encoder, 160)


def test_every_scale_up_to_the_one_given_is_shown_to_be_within_epsilon(data: EncoderData) -> None:
    noise = learner(data).noise
    found = calibrate_scale(data, noise, epsilon=0.1)
    scales = [scale for scale, _ in found.tested]
    assert scales == sorted(scales) and found.scale == scales[-2]
    assert all(bound <= 0.1 for _, bound in found.tested[:-1]) and found.tested[-1][1] > 0.1
    for scale, bound in found.tested:
        change, _ = changes(data, noise, scale=scale)
        assert bound == pytest.approx(upper_mean_bound(change, target=0.1, largest=2), rel=1e-9)
    assert found.probability_change < found.bound <= found.epsilon and found.n == 160
    seen = null_radius(data, noise, epsilon=0.1)
    assert found.scale < seen.scale, "the mean alone allows more than can be promised"
    assert found == calibrate_scale(data, noise, epsilon=0.1)


def test_the_first_failure_ends_it(data: EncoderData, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that shrinks again at larger scales: what lies beyond a failure is not tried."""
    sizes = iter([0.0, 0.0, 0.0, 2.0, 0.0, 0.0])

    def told(*_: object, **__: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((160,), next(sizes), dtype=torch.float64), torch.ones(160, dtype=torch.bool)

    monkeypatch.setattr("nullspace.noise.calibrated_scale.changes", told)
    found = calibrate_scale(data, torch.zeros(1), epsilon=0.1, expected=8.0)
    assert len(found.tested) == 4 and found.scale == found.tested[2][0] == 2.0


def test_what_cannot_be_shown_is_an_error_with_a_remedy(data: EncoderData) -> None:
    noise = learner(data).noise
    with pytest.raises(NullspaceError, match="at least 302 calibration images.* got 160"):
        calibrate_scale(data, noise, epsilon=0.02)
    with pytest.raises(NullspaceError, match="upper bound of .* from 160 calibration images; give more"):
        calibrate_scale(data, 1e4 * noise, epsilon=0.1)
    with pytest.raises(NullspaceError, match="positive finite scale"):
        calibrate_scale(data, noise, epsilon=0.1, expected=0.0)
