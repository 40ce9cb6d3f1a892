"""A small model and a mark for it, made once per file."""

from __future__ import annotations

import pytest

from nullspace.vit import SplitViT
from nullspace.watermark.payload import HiddenMark
from tests.nullspace.watermark.marked import KEY, small_model


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return small_model()


@pytest.fixture(scope="module")
def mark(model: SplitViT) -> HiddenMark:
    return HiddenMark(model, KEY)
