"""The learned noise and its controls: drawn per image, of equal norm, the same on any worker."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nullspace.metrics.norms import remove_shift, spread, token_norms
from pipelines.evaluations.token_noise import CONDITIONS, TokenNoise
from tests.pipelines import tiny

IDS = ["a", "b", "c"]
CPU = torch.device("cpu")


def test_controls_have_relative_norm_and_spread_of_the_noise() -> None:
    noise = tiny.noise()
    found = TokenNoise(noise, tiny.split())
    drawn = {condition: found.draw(condition, IDS, CPU) for condition in CONDITIONS}
    effective = remove_shift(noise.tensor)
    for condition in CONDITIONS:
        assert drawn[condition].shape == (3, *noise.tensor.shape)
        for own in drawn[condition]:
            assert noise.unit.relative_norm(own) == pytest.approx(noise.unit.relative_norm(noise.tensor), rel=1e-5)
            assert spread(remove_shift(own)) == pytest.approx(spread(effective), rel=1e-5)
            torch.testing.assert_close(token_norms(remove_shift(own)), token_norms(effective), rtol=1e-5, atol=0)


def test_learned_noise_is_one_for_all_and_controls_are_drawn_anew() -> None:
    noise = TokenNoise(tiny.noise(), tiny.split())
    assert torch.equal(noise.draw("learned", IDS, CPU)[2], noise.noise.tensor)
    for condition in ("permuted", "gaussian"):
        drawn = noise.draw(condition, IDS, CPU)
        assert not torch.allclose(drawn[0], drawn[1])
        assert torch.equal(drawn[[2, 0]], noise.draw(condition, ["c", "a"], CPU)), "by id, not by place"
        assert not torch.allclose(
            drawn, TokenNoise(noise.noise, replace(noise.split, seed=5)).draw(condition, IDS, CPU)
        )
