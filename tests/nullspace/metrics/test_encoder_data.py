"""Images as an encoder sees them: the model's own outputs, whatever the batches, and what does not fit refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nullspace.errors import NullspaceError
from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.metrics.norms import mean_token_norm
from nullspace.model.encoder import Encoder
from nullspace.model.vit import Outputs
from tests.nullspace.reacting import TINY, data_of, images, reacting


@pytest.fixture(scope="module", params=["patch_tokens", "block:1"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return Encoder(reacting(TINY), request.param)


@pytest.fixture(scope="module")
def data(encoder: Encoder) -> EncoderData:
    return data_of(encoder, 48, seed=9, batch_size=10)


def test_data_is_the_models_own(encoder: Encoder, data: EncoderData) -> None:
    with torch.no_grad():
        torch.testing.assert_close(data.states, encoder.states(images(48, seed=9)))
        torch.testing.assert_close(data.clean.logits, encoder.model(images(48, seed=9)))
    assert data.n == 48 and data.unit.token_norm == mean_token_norm(encoder.patch_part(data.states))
    bytes_ = (images(3) * 255).round().to(torch.uint8)
    of_bytes, of_floats = (prepare(encoder, each, shift_invariant=True) for each in (bytes_, bytes_.float() / 255))
    torch.testing.assert_close(of_bytes.states, of_floats.states)


def test_data_of_states_is_that_of_their_images(encoder: Encoder, data: EncoderData) -> None:
    again = EncoderData.of(encoder, data.states, shift_invariant=True, batch_size=7)
    torch.testing.assert_close(again.clean.logits, data.clean.logits)
    assert again.unit == data.unit and again.fingerprint() == data.fingerprint()
    known = EncoderData.of(encoder, data.states, data.clean, shift_invariant=False, token_norm=3.0)
    assert known.clean is data.clean and (known.unit.token_norm, known.unit.shift_invariant) == (3.0, False)


def test_outputs_under_noise_are_those_of_the_states_with_it(encoder: Encoder, data: EncoderData) -> None:
    noise = torch.randn(encoder.noise_shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(data.outputs(noise).logits, encoder.logits(encoder.add(data.states, noise)))
    with pytest.raises(NullspaceError, match="expected noise of shape"):
        data.outputs(noise[:3])


def test_a_subset_keeps_the_unit(data: EncoderData) -> None:
    few = data.subset(torch.tensor([5, 2]))
    assert few.n == 2 and few.unit == data.unit and torch.equal(few.states[1], data.states[2])
    assert torch.equal(few.clean.logits[0], data.clean.logits[5])
    assert few.fingerprint() != data.fingerprint()


def test_what_does_not_fit_is_refused(encoder: Encoder, data: EncoderData) -> None:
    with pytest.raises(NullspaceError, match="at least one image"):
        prepare(encoder, images(0), shift_invariant=True)
    for states in (data.states[:0], data.states[0], data.states[:, :5]):
        with pytest.raises(NullspaceError, match="expected states"):
            EncoderData.of(encoder, states, shift_invariant=True)
    with pytest.raises(NullspaceError, match="same 48 images"):
        replace(data, clean=data.subset(slice(0, 5)).clean)
    spoilt = torch.where(torch.arange(48)[:, None] < 2, torch.nan, data.clean.logits)
    with pytest.raises(NullspaceError, match="clean logits of 2 of 48 images are not finite"):
        replace(data, clean=Outputs(data.clean.features, spoilt))
    with pytest.raises(NullspaceError, match="batch_size >= 1"):
        EncoderData.of(encoder, data.states, shift_invariant=True, batch_size=0)
    with pytest.raises(NullspaceError, match="batch_size >= 1"):
        prepare(encoder, images(3), shift_invariant=True, batch_size=0)
    with pytest.raises(NullspaceError, match="positive finite mean token norm"):
        EncoderData.of(encoder, data.states, shift_invariant=True, token_norm=0.0)
