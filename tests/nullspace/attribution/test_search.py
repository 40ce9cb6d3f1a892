"""Explanations moved while predictions stay: within ε, as 8-bit pixels, further than signs at random; beside scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from nullspace.attribution.compare import spearman
from nullspace.attribution.gradients import integrated_gradients
from nullspace.attribution.maps import MAPS, map_named
from nullspace.attribution.places import PixelPlace, TokenPlace, token_noise
from nullspace.attribution.search import move_map, soft_ranks
from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT
from tests.nullspace.attribution.tiny import tiny

EPSILON = 16 / 255
MANY_PASSES = ("integrated_gradients", "smooth_gradient")
CLASSES = torch.tensor([1, 2, 3])
DRAWS = Draws(0, "moved", ["a", "b", "c"])


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return tiny()


def around(model: SplitViT, pictures: Tensor, epsilon: float = EPSILON) -> PixelPlace:
    return PixelPlace.around(model, pictures, DRAWS, epsilon=epsilon)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return from_uint8(round_to_uint8(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))))


@pytest.mark.parametrize("name", [name for name in MAPS if name not in MANY_PASSES])
def test_the_map_moves_and_the_prediction_stays(model: SplitViT, images: Tensor, name: str) -> None:
    classes, found = model(images).argmax(dim=1), map_named(name)
    before = found(model, images, classes)
    moved = move_map(model, images, found, around(model, images), steps=15)
    pictures = from_uint8(moved.made)
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
    moved = move_map(model, images, found, around(model, images), towards=wanted, steps=15)
    assert float(moved.likeness.mean()) > float(spearman(before, wanted).mean()) + 0.1
    assert torch.allclose(moved.likeness, spearman(found(model, from_uint8(moved.made), classes), wanted), atol=1e-6)


def test_another_picture_gets_the_images_class_and_map(model: SplitViT, images: Tensor) -> None:
    looks, found = images.roll(1, 0), map_named("gradient_weighted_attention")
    classes = model(images).argmax(dim=1)
    own = found(model, images, classes)
    moved = move_map(model, images, found, around(model, looks), towards=own, steps=40)
    assert float((from_uint8(moved.made) - looks).abs().max()) <= EPSILON + 1e-6
    assert bool(moved.kept.all()) and float(moved.likeness.mean()) > float(
        spearman(own, found(model, looks, classes)).mean()
    )


@pytest.mark.parametrize("name", ["gradient_weighted_attention", "gradient"])
def test_noise_on_tokens_moves_a_map(model: SplitViT, images: Tensor, name: str) -> None:
    found, classes = map_named(name), model(images).argmax(dim=1)
    place = TokenPlace.of(model, images, DRAWS, relative_norm=0.5)
    moved = move_map(model, images, found, place, steps=15)
    lengths = moved.made.norm(dim=2)
    mean = model.tokens(images).norm(dim=2).mean(dim=1, keepdim=True)
    assert bool((lengths <= 0.5 * mean * (1 + 1e-5)).all())
    with token_noise(model, moved.made):
        after, logits = found(model, images, classes), model(images)
    before = found(model, images, classes)
    assert torch.allclose(moved.likeness, spearman(before, after), atol=1e-6) and float(moved.likeness.mean()) < 0.7
    assert torch.equal(logits.argmax(dim=1), classes) and bool(moved.kept.all())
    assert torch.equal(before, found(model, images, classes)), "the noise is gone"


def test_what_does_not_hold_the_prediction_is_said(model: SplitViT, images: Tensor) -> None:
    looks = images.roll(1, 0)
    moved = move_map(model, images, map_named("gradient"), around(model, looks, epsilon=1 / 255), steps=2)
    expected = (model(from_uint8(moved.made)).softmax(dim=1) - model(images).softmax(dim=1)).square().sum(dim=1)
    assert torch.allclose(moved.change, expected, atol=1e-6)
    assert torch.equal(moved.kept, model(from_uint8(moved.made)).argmax(dim=1) == model(images).argmax(dim=1))


def test_many_points_need_the_memory_of_one(model: SplitViT, images: Tensor) -> None:
    """Graphs of a mean of gradients are made again one by one, and give the derivative all the same."""
    kept: list[int] = []

    def derivative(points: int, create: Any) -> Tensor:
        leaf = images.clone().requires_grad_()
        total = 0
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            found = create(model, leaf, CLASSES, points=points, create_graph=True).sin().sum()
        total += sum(kept)
        kept.clear()
        sizes[points] = total
        return torch.autograd.grad(found, leaf)[0]

    sizes: dict[int, int] = {}
    few, many = (derivative(points, integrated_gradients) for points in (2, 8))
    assert sizes[8] < 6 * sizes[2] and bool(torch.isfinite(few).all()) and bool(torch.isfinite(many).all())
    shift = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)) * 1e-3
    apart = [
        integrated_gradients(model, images + sign * shift, CLASSES, points=8).sin().sum().double() for sign in (1, -1)
    ]
    assert float((many * shift).sum()) == pytest.approx(float(apart[0] - apart[1]) / 2, rel=0.05)


def test_a_map_is_drawn_into_a_corner(model: SplitViT, images: Tensor) -> None:
    found = map_named("gradient_weighted_attention")
    corner = torch.zeros(4, 4)
    corner[:2, :2] = torch.tensor([[4.0, 3.0], [3.0, 2.0]])
    wanted = corner.flatten().expand(3, -1)
    moved = move_map(model, images, found, around(model, images, epsilon=48 / 255), towards=wanted, steps=30)
    pictures = from_uint8(moved.made)
    maps = [found(model, each, model(images).argmax(dim=1)) for each in (images, pictures)]
    share = [each.unflatten(1, (4, 4))[:, :2, :2].sum(dim=(1, 2)) / each.sum(dim=1) for each in maps]
    assert bool(moved.kept.all()) and bool((share[1] > share[0]).all())


def test_soft_ranks_are_ranks_where_entries_are_apart() -> None:
    apart = torch.randperm(30, generator=torch.Generator().manual_seed(0)).double()[None]
    ranks = stats.rankdata(apart.numpy(), axis=1)
    assert np.allclose(soft_ranks(apart) + 0.5, ranks, atol=1)  # the outermost have neighbours on one side alone
    assert np.array_equal(soft_ranks(apart).argsort(dim=1), apart.argsort(dim=1))
    assert torch.allclose(soft_ranks(apart), soft_ranks(5 + 3 * apart))  # neither scale nor shift matters


def test_what_cannot_be_is_refused(model: SplitViT, images: Tensor) -> None:
    found, place = map_named("gradient"), around(model, images)
    with pytest.raises(NullspaceError, match="expected wanted maps of shape"):
        move_map(model, images, found, place, towards=torch.zeros(3, 4))
    with pytest.raises(NullspaceError, match="steps >= 1"):
        move_map(model, images, found, place, steps=0)
    with pytest.raises(ImageRangeError):
        around(model, 2 * images)
    with pytest.raises(NullspaceError, match="relative_norm > 0"):
        TokenPlace.of(model, images, DRAWS, relative_norm=0.0)
