"""A small model and a mark for it, made once per file."""

from __future__ import annotations

import pytest

from nullspace.model.vit import SplitViT
from nullspace.watermark.payload.hidden_mark import HiddenMark
from tests.nullspace.watermark.payload.marked import KEY, small_model


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return small_model()


@pytest.fixture(scope="module")
def mark(model: SplitViT) -> HiddenMark:
    return HiddenMark(model, KEY)
