"""Metamers of small models with random weights: near, inside their ball, and what is returned is what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.fooling.closeness import inverse_of_classifier
from nullspace.fooling.depth import squared_distance, state_at
from nullspace.fooling.metamer import metamers
from nullspace.model.encoder import Encoder
from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.resize import resize_of
from nullspace.model.vit import SplitViT

TINY: dict[str, Any] = {
    "depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 10,
}  # fmt: skip
DEPTHS = ("logits", "features", "tokens", "block:1")


@pytest.fixture(scope="module")
def model() -> SplitViT:
    return SplitViT.load("vit_tiny_patch16_224", weights="random", model_args=TINY)


def pictures(seed: int, count: int = 4, size: int = 32) -> Tensor:
    drawn = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return from_uint8(round_to_uint8(drawn))


@pytest.mark.parametrize("at", DEPTHS)
def test_the_file_has_the_stated_distance_and_lies_inside_its_ball(model: SplitViT, at: str) -> None:
    images, looks = pictures(0), pictures(1)
    found = metamers(model, images, looks, at=at, epsilon=32 / 255, steps=25, enough=0)
    assert found.saved.dtype == torch.uint8
    assert int((found.saved.int() - round_to_uint8(looks).int()).abs().max()) <= 32
    state = state_at(model, at)
    with torch.no_grad():
        wanted = state(images)
        left = squared_distance(state(from_uint8(found.saved)), wanted) / squared_distance(state(looks), wanted)
    assert torch.allclose(found.distance, left, rtol=1e-3)
    assert float(left.max()) < 0.75 and found.passes.tolist() == [25] * 4


def test_the_logits_of_another_image_within_a_few_levels(model: SplitViT) -> None:
    images, looks = pictures(2), pictures(3)
    found = metamers(model, images, looks, epsilon=48 / 255)
    with torch.no_grad():
        assert torch.equal(model(from_uint8(found.saved)).argmax(1), model(images).argmax(1))
    assert float(found.distance.max()) < 0.05


def test_anywhere_in_the_pixel_range_and_within_a_root_mean_square(model: SplitViT) -> None:
    images, grey = pictures(2), torch.full((4, 3, 32, 32), 128 / 255)
    free = metamers(model, images, grey)
    assert float(free.distance.max()) < 0.02
    near = metamers(model, images, grey, rms=0.1)
    size = (from_uint8(near.saved) - grey).square().mean(dim=(1, 2, 3)).sqrt()
    assert float(size.max()) <= 0.1 + 1e-6 and float(near.distance.max()) < 1


def test_pictures_that_are_ready_are_set_aside_and_the_others_go_on(model: SplitViT) -> None:
    images, looks = pictures(2), pictures(3)
    looks[0] = images[0]
    seen: list[Tensor] = []
    found = metamers(
        model, images, looks, epsilon=48 / 255, steps=12, progress=lambda step, best: seen.append(best.clone())
    )
    assert found.passes[0] == 1 and found.passes[1:].tolist() == [12, 12, 12]
    assert torch.equal(found.saved[0], round_to_uint8(images)[0])
    assert len(seen) == 12


def test_a_picture_does_not_depend_on_its_neighbours(model: SplitViT) -> None:
    images, looks = pictures(2).double().float(), pictures(3)
    together = metamers(model, images, looks, epsilon=32 / 255, steps=8)
    alone = metamers(model, images[2:3], looks[2:3], epsilon=32 / 255, steps=8)
    assert float(alone.distance[0]) == pytest.approx(float(together.distance[2]), rel=0.05)


def test_looks_of_another_size_are_files_before_the_models_resize(model: SplitViT) -> None:
    images, files = pictures(2), pictures(4, size=48)
    resize = resize_of(model.preprocessing, (48, 48))
    found = metamers(model, images, files, epsilon=48 / 255, seen=resize.model_pixels)
    assert found.saved.shape == files.shape
    with torch.no_grad():
        assert torch.equal(model(resize.model_pixels(from_uint8(found.saved))).argmax(1), model(images).argmax(1))


def test_the_depths_are_the_models_own_states(model: SplitViT) -> None:
    images = pictures(5)
    with torch.no_grad():
        outputs = model.outputs_from_tokens(model.tokens(images))
        assert torch.allclose(state_at(model, "logits")(images), outputs.logits, atol=1e-5)
        assert torch.equal(state_at(model, "features")(images), outputs.features)
        assert torch.equal(state_at(model, "tokens")(images), model.tokens(images).flatten(1))
        assert torch.equal(state_at(model, "block:1")(images), Encoder(model, "block:1").states(images).flatten(1))


def test_in_the_metric_logits_are_as_far_apart_as_the_features_behind_them(model: SplitViT) -> None:
    weight = model.model.get_classifier().weight.double()  # pyright: ignore[reportCallIssue]
    metric = inverse_of_classifier(model, torch.zeros(1, 10))
    assert metric is not None
    largest = torch.linalg.matrix_norm(weight, 2)
    features = torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = features @ torch.linalg.pinv(weight) @ weight  # their part that the classifier sees
    lengths = (features @ weight.T @ metric.double() / largest).norm(dim=1)
    assert torch.allclose(lengths, seen.norm(dim=1), rtol=1e-4)


def test_models_without_classifier_or_with_several_have_no_metric() -> None:
    features = SplitViT.load("vit_tiny_patch16_224", weights="random", model_args={**TINY, "num_classes": 0})
    assert inverse_of_classifier(features, torch.zeros(1, 48)) is None
    found = metamers(features, pictures(0), pictures(1), epsilon=32 / 255, steps=5)
    assert float(found.distance.max()) < 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"at": "head"}, NullspaceError, "expected logits, features, tokens or block:N, got 'head'"),
        ({"at": "block:9"}, NullspaceError, "a block below 2"),
        ({"steps": 0}, NullspaceError, "steps >= 1"),
        ({"enough": float("nan")}, NullspaceError, "enough >= 0"),
        ({"looks": torch.zeros(3, 3, 32, 32)}, NullspaceError, "a look for every image"),
        ({"images": torch.full((4, 3, 32, 32), 2.0)}, ImageRangeError, r"\[0,1\]"),
    ],
)
def test_wrong_input_is_refused(model: SplitViT, change: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"images": pictures(0), "looks": pictures(1), **change}
    with pytest.raises(error, match=message):
        metamers(model, given.pop("images"), given.pop("looks"), **given)


@pytest.mark.real
def test_real_photographs_within_four_levels(assets: Path) -> None:
    from PIL import Image

    real = SplitViT.load("deit_tiny_patch16_224", weights=assets / "deit_tiny_patch16_224" / "model.safetensors")
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))[:6]
    transform = real.preprocessing.transform()
    photos = from_uint8(torch.stack([transform(Image.open(file).convert("RGB")) for file in files]))
    found = metamers(real, photos[:3], photos[3:], epsilon=4 / 255)
    with torch.no_grad():
        assert torch.equal(real(from_uint8(found.saved)).argmax(1), real(photos[:3]).argmax(1))
    assert float(found.distance.median()) < 0.05
