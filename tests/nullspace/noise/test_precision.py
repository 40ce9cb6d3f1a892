"""Learning through weights in bfloat16: what stays float32, what the change is counted from, that the bound holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.radius import changes
from nullspace.model.encoder import Encoder
from nullspace.noise.calibrated_scale import calibrate_scale
from nullspace.noise.learn import learn_noise
from nullspace.noise.precision import Runner, in_bfloat16
from nullspace.noise.settings import NoiseSettings
from tests.nullspace.reacting import TINY, data_of, learner, reacting

HALF = NoiseSettings(steps=20, batch_size=16, ranks=(1, 4), precision="bfloat16")


def test_the_bound_of_noise_learned_in_bfloat16_holds_for_the_model_in_float32(
    encoder: Encoder, data: EncoderData
) -> None:
    learned = learn_noise(data, HALF)
    assert learned.noise.dtype == torch.float32 and learned.artifact(data).settings["precision"] == "bfloat16"
    found = calibrate_scale(data_of(encoder, 160, seed=1), learned.noise, epsilon=0.1)
    assert found.bound <= 0.1 and found.scale > 0
    change, _ = changes(data_of(encoder, 160, seed=2), learned.noise, scale=found.scale)
    assert float(change.mean()) <= found.bound, "on images of their own, and the model as it is"
    start, _ = changes(data, learner(data, start="random", ranks=None).noise)
    end, _ = changes(data, learned.noise)
    assert float(end.mean()) < float(start.mean())


def test_no_noise_is_no_change_in_either_precision(data: EncoderData) -> None:
    nothing = torch.zeros(data.encoder.noise_shape)
    for precision in ("float32", "bfloat16"):
        runner = Runner(replace(data, batch_size=96), precision)
        found = runner.outputs(data.states, nothing)
        assert found.logits.dtype == torch.float32
        assert torch.allclose(found.logits, runner.clean.logits, atol=1e-5)
    assert not torch.equal(Runner(data, "bfloat16").clean.logits, data.clean.logits)


@pytest.mark.parametrize("injection", ["patch_tokens", "block:1"])
def test_the_encoder_given_stays_as_it_is(injection: str) -> None:
    encoder = Encoder(reacting(TINY), injection)
    half = in_bfloat16(encoder)
    assert half.injection == injection and half.prefix == encoder.prefix
    assert {each.dtype for each in encoder.model.parameters()} == {torch.float32}
    assert {each.dtype for each in half.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_several_steps_are_single_ones(data: EncoderData, precision: str) -> None:
    one, many = (learner(data, precision=precision) for _ in range(2))
    assert [one.step() for _ in range(6)] == many.steps(6)
    assert torch.equal(one.noise, many.noise) and many.steps(0) == [] and many.steps_done == 6
