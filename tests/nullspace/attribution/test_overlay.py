"""Maps as pictures: from 0 to 1, monotone in brightness, as large as the image."""

from __future__ import annotations

import pytest
import torch

from nullspace.attribution.overlay import as_drawn, laid_over
from nullspace.attribution.random_weights import with_weights_in_random_order
from nullspace.model.vit import SplitViT
from tests.nullspace.attribution.tiny import tiny


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny()


def test_a_map_is_drawn_where_its_tokens_are(model: SplitViT) -> None:
    maps = torch.zeros(2, 16)
    maps[0, 5] = 3.0
    drawn = as_drawn(model, maps)
    assert drawn.shape == (2, 1, 32, 32) and float(drawn.min()) == 0 and float(drawn.max()) == 1
    place = drawn[0, 0].flatten().argmax()
    assert (int(place) // 32) // 8 == 1 and (int(place) % 32) // 8 == 1
    assert not bool(drawn[1].any()), "a constant map shows nothing"
    assert torch.allclose(as_drawn(model, 5 * maps[:1] - 2), drawn[:1], atol=1e-6)


def test_more_is_lighter(model: SplitViT) -> None:
    ramp = torch.linspace(0, 1, 256).view(1, 1, 1, 256)
    laid = laid_over(torch.full((1, 3, 1, 256), 0.5), ramp)
    brightness = (laid * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1).flatten()
    assert bool((brightness.diff() > 0).all()) and float(laid.min()) >= 0 and float(laid.max()) <= 1


def test_weights_in_random_order_are_the_same_weights(model: SplitViT) -> None:
    mixed, again, other = (with_weights_in_random_order(model, seed) for seed in (0, 0, 1))
    for one, two, three in zip(model.parameters(), mixed.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.flatten().sort().values, two.flatten().sort().values) and torch.equal(two, three)
    images = torch.rand(2, 3, 32, 32)
    assert not torch.allclose(model(images), mixed(images)) and not torch.allclose(mixed(images), other(images))
