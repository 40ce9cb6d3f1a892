"""What holds for all corruptions: names, range, ids, batches, sizes, and that severity means something."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.robustness.corruptions.corruption import Corruption, corrupted, corruption_named
from nullspace.robustness.corruptions.names import FAMILIES, NAMES, SEVERITIES
from nullspace.robustness.corruptions.operations import OPERATIONS
from tests.nullspace.watermark.payload.marked import pictures

IDS = ["a", "b", "c"]
RANDOM = {*FAMILIES["noise"], "glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform"}
ALL = [Corruption(name, severity) for name in NAMES for severity in SEVERITIES]


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(3, 64)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).square().mean().sqrt())


def test_there_are_15_at_5_severities() -> None:
    assert len(NAMES) == len(set(NAMES)) == 15 and set(OPERATIONS) == set(NAMES)
    assert [corruption_named(each.name) for each in ALL] == ALL
    assert corruption_named("elastic_transform_2") == Corruption("elastic_transform", 2)
    assert [Corruption(name, 1).family for name in ("shot_noise", "fog")] == ["noise", "weather"]


@pytest.mark.parametrize("corruption", ALL, ids=lambda each: each.name)
def test_images_stay_images_and_change(images: Tensor, corruption: Corruption) -> None:
    made = corrupted(images, corruption, IDS)
    assert made.dtype == torch.uint8 and made.shape == images.shape
    assert distance(made, images) > 1  # of 255


@pytest.mark.parametrize("name", NAMES)
def test_pixels_depend_on_id_seed_and_corruption_alone(images: Tensor, name: str) -> None:
    corruption = Corruption(name, 3)
    together = corrupted(images, corruption, IDS)
    assert torch.equal(together[1:2], corrupted(images[1:2], corruption, ["b"]))
    assert torch.equal(together.flip(0), corrupted(images.flip(0), corruption, IDS[::-1]))
    others = (corrupted(images, corruption, ["x", "y", "z"]), corrupted(images, corruption, IDS, seed=1))
    for other in others:
        assert torch.equal(together, other) == (name not in RANDOM)


@pytest.mark.parametrize("size", [(32, 32), (40, 56), (224, 96)])
def test_any_size_from_32_pixels_on(size: tuple[int, int]) -> None:
    image = pictures(1, 224)[:, :, : size[0], : size[1]].contiguous()
    for name in NAMES:
        for severity in (1, 5):
            made = corrupted(image, Corruption(name, severity), ["a"])
            assert made.shape == image.shape and distance(made, image) > 0, name


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_severity_moves_the_image_further(name: str) -> None:
    """By the published settings neighbours may change places where these differ in kind, or clouds are drawn anew."""
    image = pictures(4, 224)
    moved = [distance(corrupted(image, Corruption(name, each), list("abcd")), image) for each in SEVERITIES]
    if name == "elastic_transform":  # coarse and far at 1 and 2, fine and near from 3 on
        assert moved[0] < moved[1] and moved[2] < moved[4]
    elif name in ("glass_blur", "snow", "frost", "fog"):
        assert max(moved[:2]) < moved[4]
    else:
        assert moved == sorted(moved)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("name", NAMES)
def test_black_and_white_images_are_no_trouble(name: str, level: int) -> None:
    flat = torch.full((1, 3, 48, 48), level, dtype=torch.uint8)
    made = corrupted(flat, Corruption(name, 4), ["a"])
    if name in (*FAMILIES["blur"], "contrast", "elastic_transform", "pixelate", "jpeg_compression"):
        assert distance(made, flat) == 0


@pytest.mark.parametrize(
    ("images", "ids", "says"),
    [
        (torch.zeros(1, 3, 64, 64), ["a"], r"expected 8-bit images \(B,3,H,W\), got torch.float32"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), ["a"], r"of shape \(3, 64, 64\)"),
        (torch.zeros(1, 3, 64, 28, dtype=torch.uint8), ["a"], r"at least 32 pixels, got \(64, 28\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), IDS, "an id for each of 1 images, got 3"),
    ],
)
def test_other_images_are_refused(images: Tensor, ids: list[str], says: str) -> None:
    with pytest.raises(NullspaceError, match=says):
        corrupted(images, Corruption("fog", 1), ids)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fog", "expected a corruption and its severity, as in fog_3, got 'fog'"),
        ("fog_6", "expected a severity of 1 to 5 of fog, got 6"),
        ("rain_1", "unknown corruption 'rain'; known are gaussian_noise, "),
    ],
)
def test_unknown_names_are_refused(name: str, says: str) -> None:
    with pytest.raises(NullspaceError, match=says):
        corruption_named(name)


def test_no_image_is_no_trouble() -> None:
    assert corrupted(torch.zeros(0, 3, 64, 64, dtype=torch.uint8), Corruption("snow", 2), []).shape == (0, 3, 64, 64)
