"""A small model that reacts to its input, and data of it, for tests that ask for no other."""

from __future__ import annotations

import pytest

from nullspace.metrics.encoder_data import EncoderData
from nullspace.model.encoder import Encoder
from tests.nullspace.reacting import TINY, data_of, reacting


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(reacting(TINY))


@pytest.fixture(scope="module")
def data(encoder: Encoder) -> EncoderData:
    return data_of(encoder, 96)
