"""Explanations moved while predictions stay: within ε, as 8-bit pixels, further than signs at random; beside scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from nullspace.attribution.compare import spearman
from nullspace.attribution.maps import MAPS, map_named
from nullspace.attribution.search import move_map, soft_ranks
from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from tests.nullspace.attribution.tiny import tiny

EPSILON = 16 / 255
DRAWS = Draws(0, "moved", ["a", "b", "c"])


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return from_uint8(round_to_uint8(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))))


@pytest.mark.parametrize("name", [name for name in MAPS if name != "integrated_gradients"])
def test_the_map_moves_and_the_prediction_stays(model: SplitViT, images: Tensor, name: str) -> None:
    classes, found = model(images).argmax(dim=1), map_named(name)
    before = found(model, images, classes)
    moved = move_map(model, images, classes, found, DRAWS, epsilon=EPSILON, steps=15)
    pictures = from_uint8(moved.saved)
    assert float((pictures - images).abs().max()) <= EPSILON + 1e-6
    assert bool(moved.kept.all()) and float(moved.change.max()) <= 0.01
    logits = model(pictures)
    assert torch.equal(logits.argmax(dim=1), classes)
    expected = (logits.softmax(dim=1) - model(images).softmax(dim=1)).square().sum(dim=1)
    assert torch.allclose(moved.change, expected, atol=1e-6)
    assert torch.allclose(moved.likeness, spearman(before, found(model, pictures, classes)), atol=1e-6)
    signs = from_uint8(round_to_uint8((images + EPSILON * DRAWS.signs(3, 32, 32)).clamp(0, 1)))
    assert float(moved.likeness.mean()) < float(spearman(before, found(model, signs, classes)).mean()) - 0.1


def test_it_comes_nearer_to_a_wanted_map(model: SplitViT, images: Tensor) -> None:
    classes, found = model(images).argmax(dim=1), map_named("gradient_weighted_attention")
    before = found(model, images, classes)
    wanted = before.roll(1, 0)
    moved = move_map(model, images, classes, found, DRAWS, epsilon=EPSILON, towards=wanted, steps=15)
    assert float(moved.likeness.mean()) > float(spearman(before, wanted).mean()) + 0.1
    assert torch.allclose(moved.likeness, spearman(found(model, from_uint8(moved.saved), classes), wanted), atol=1e-6)
    again = move_map(
        model, images[1:2], classes[1:2], found, DRAWS[1:2], epsilon=EPSILON, towards=wanted[1:2], steps=15
    )
    assert float((again.saved.float() - moved.saved[1:2].float()).abs().max()) <= 2 * 255 * EPSILON
    assert bool(again.kept.all())


def test_soft_ranks_are_ranks_where_entries_are_apart() -> None:
    apart = torch.randperm(30, generator=torch.Generator().manual_seed(0)).double()[None]
    ranks = stats.rankdata(apart.numpy(), axis=1)
    assert np.allclose(soft_ranks(apart) + 0.5, ranks, atol=1)  # the outermost have neighbours on one side alone
    assert np.array_equal(soft_ranks(apart).argsort(dim=1), apart.argsort(dim=1))
    assert torch.allclose(soft_ranks(apart), soft_ranks(5 + 3 * apart))  # neither scale nor shift matters


def test_what_cannot_be_is_refused(model: SplitViT, images: Tensor) -> None:
    classes, found = torch.tensor([1, 2, 3]), map_named("gradient")
    with pytest.raises(NullspaceError, match="expected wanted maps of shape"):
        move_map(model, images, classes, found, DRAWS, epsilon=EPSILON, towards=torch.zeros(3, 4))
    with pytest.raises(NullspaceError, match="steps >= 1"):
        move_map(model, images, classes, found, DRAWS, epsilon=EPSILON, steps=0)
    with pytest.raises(ImageRangeError):
        move_map(model, 2 * images, classes, found, DRAWS, epsilon=EPSILON)
