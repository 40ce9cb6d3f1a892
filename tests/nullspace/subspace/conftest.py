"""A small model and its sensitivity spectrum, made once for a file of tests."""

from __future__ import annotations

import pytest

from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.subspace.spectrum import SensitivitySpectrum
from tests.nullspace.subspace.sensitive import spectrum_of, states_of, tiny


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny()


@pytest.fixture(scope="module")
def spectrum(model: SplitViT) -> SensitivitySpectrum:
    encoder = Encoder(model)
    return spectrum_of(encoder, states_of(encoder), k=12)
