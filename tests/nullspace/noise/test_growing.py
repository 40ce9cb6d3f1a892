"""Noise grown to an epsilon: larger than where it began, and within epsilon on images used for nothing else."""

from __future__ import annotations

import pytest

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.metrics.mean_bound import upper_mean_bound
from nullspace.metrics.norms import token_norms
from nullspace.metrics.radius import changes
from nullspace.model.encoder import Encoder
from nullspace.noise.growing import grow_noise
from nullspace.noise.learner import NoiseSettings
from tests.nullspace.reacting import images

Parts = tuple[EncoderData, EncoderData, EncoderData]


@pytest.fixture(scope="module")
def parts(encoder: Encoder) -> Parts:
    parts = images(32 + 32 + 150).split([32, 32, 150])
    learn, validation, calibration = (prepare(encoder, part, shift_invariant=True) for part in parts)
    return learn, validation, calibration


def test_noise_grows_and_is_within_epsilon_with_confidence(parts: Parts) -> None:
    settings = NoiseSettings(relative_norm=0.05, ranks=(1, 4), steps=30, batch_size=16)
    found = grow_noise(*parts, settings, epsilon=0.05)
    change, _ = changes(parts[2], found.noise)
    guarantee = found.guarantee
    assert float(change.mean()) <= guarantee.bound <= guarantee.epsilon == 0.05 and guarantee.n == 150
    assert upper_mean_bound(change, target=0.05, largest=2) == pytest.approx(guarantee.bound, rel=1e-3)
    assert found.relative_norm > 0.05, "it outgrew the norm it began at"
    assert token_norms(found.noise).std() < 1e-4


def test_what_cannot_be_promised_is_refused_before_anything_is_learned(parts: Parts) -> None:
    settings = NoiseSettings(relative_norm=0.05, ranks=(1, 4), steps=10**9, batch_size=16)
    with pytest.raises(NullspaceError, match="at least 302 calibration images.* 0.02 .* got 150; .*raise epsilon"):
        grow_noise(*parts, settings, epsilon=0.02)
    with pytest.raises(NullspaceError, match="growth > 1"):
        grow_noise(*parts, settings, epsilon=0.05, growth=1.0)
