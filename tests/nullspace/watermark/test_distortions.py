"""Distortions do what their names state: against Pillow and numpy, seeded, of stated strength."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.watermark.distortions import KINDS, STANDARD, Distortion, distorted, distortion_named
from tests.nullspace.watermark.payload.marked import pictures

IMAGES = pictures(3, 64)
DRAWS = Draws(0, "test", ["a", "b", "c"])


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    written = io.BytesIO()
    image.save(written, kind, quality=quality)
    return Image.open(written).convert("RGB")


def one(name: str, image: Tensor = IMAGES[0], id_: str = "a") -> Tensor:
    return distorted(image[None], distortion_named(name), Draws(0, name, [id_]))[0]


@pytest.mark.parametrize(
    ("name", "reference", "within"),
    [
        ("none", lambda image: image, 0),
        ("jpeg_75", lambda image: saved(image, "JPEG", 75), 0),
        ("webp_50", lambda image: saved(image, "WEBP", 50), 0),
        ("brightness_1.5", lambda image: ImageEnhance.Brightness(image).enhance(1.5), 1),
        ("contrast_1.5", lambda image: ImageEnhance.Contrast(image).enhance(1.5), 2),
        ("saturation_0", lambda image: image.convert("L").convert("RGB"), 1),
        ("saturation_2", lambda image: ImageEnhance.Color(image).enhance(2), 2),
        ("resize_0.5", lambda image: image.resize((32, 32), Image.Resampling.BICUBIC).resize((64, 64), 3), 3),
        ("crop_0.5", lambda image: image.crop((16, 16, 48, 48)).resize((64, 64), 3), 3),
        ("flip_1", lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0),
        ("rotate_90", lambda image: image.rotate(90), 0),
    ],
)
def test_a_distortion_is_what_pillow_does(
    name: str, reference: Callable[[Image.Image], Image.Image], within: int
) -> None:
    expected = tensor(reference(pil(IMAGES[0])))
    assert int((one(name).int() - expected.int()).abs().max()) <= within


def test_a_blur_is_scipys() -> None:
    from scipy.ndimage import gaussian_filter

    expected = gaussian_filter(IMAGES[0].numpy().astype(float), (0, 1, 1), mode="nearest")
    assert float((one("blur_1") - torch.from_numpy(expected)).abs().max()) <= 0.51


def test_noise_has_its_sigma_and_depends_on_the_image_s_own_id() -> None:
    grey = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    noisy = distorted(grey, distortion_named("noise_0.05"), Draws(0, "noise_0.05", ["a", "b"]))
    assert float((noisy.float() - 128).std()) == pytest.approx(0.05 * 255, rel=0.03)
    assert torch.equal(noisy[1], one("noise_0.05", grey[1], "b")) and not torch.equal(noisy[0], noisy[1])


def test_erasing_covers_its_share_somewhere() -> None:
    white = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    first, second = one("erase_0.25", white, "a"), one("erase_0.25", white, "b")
    assert float((first == 0).float().mean()) == pytest.approx(0.25) and not torch.equal(first, second)


def test_a_shift_moves_right_and_down() -> None:
    assert torch.equal(one("shift_3")[:, 3:, 3:], IMAGES[0][:, :-3, :-3])


def test_distortions_joined_follow_one_another() -> None:
    assert torch.equal(one("brightness_1.1+jpeg_75"), one("jpeg_75", one("brightness_1.1")))


@pytest.mark.parametrize("name", STANDARD)
def test_standard_distortions_keep_size_and_kind(name: str) -> None:
    distortion = distortion_named(name)
    found = distorted(IMAGES, distortion, DRAWS)
    assert found.shape == IMAGES.shape and found.dtype == torch.uint8 and distortion.name == name
    assert distortion.family in {"none", "combined"} or distortion.family == KINDS[distortion.steps[0][0]].family
    alone = distorted(IMAGES[1:2], distortion, DRAWS[1:2])
    assert int((alone[0].int() - found[1].int()).abs().max()) <= 1, (
        "in any batch; sums of a blur may be rounded otherwise"
    )


@given(st.lists(st.tuples(st.sampled_from(["jpeg", "webp"]), st.integers(1, 100)), min_size=1, max_size=3))
def test_names_go_there_and_back(steps: list[tuple[str, int]]) -> None:
    distortion = Distortion(tuple((kind, float(strength)) for kind, strength in steps))
    assert distortion_named(distortion.name) == distortion


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jpg_75", "unknown distortion 'jpg_75'; known are none and jpeg_…, webp_…"),
        ("jpeg_0", r"1 to 100 \(quality, 4:2:0\) in the distortion 'jpeg_0'"),
        ("noise_much", r"0 to 1 \(sigma, of the pixel range\)"),
        ("jpeg", "unknown distortion 'jpeg'"),
    ],
)
def test_an_unknown_name_is_refused(name: str, expected: str) -> None:
    with pytest.raises(NullspaceError, match=expected):
        distortion_named(name)


def test_images_and_draws_are_checked() -> None:
    with pytest.raises(NullspaceError, match="each of 3 images, got 1"):
        distorted(IMAGES, distortion_named("none"), DRAWS[:1])
    with pytest.raises(NullspaceError, match=r"draws for noise_0.1\+jpeg_75, which has a random part"):
        distorted(IMAGES, distortion_named("noise_0.1+jpeg_75"))
    with pytest.raises(NullspaceError, match="8-bit images"):
        distorted(IMAGES.float(), distortion_named("none"))


def test_two_steps_of_noise_are_two_draws() -> None:
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    twice = distorted(grey, distortion_named("noise_0.05+noise_0.05"), DRAWS[:1])
    assert float((twice.float() - 128).std()) == pytest.approx(2**0.5 * 0.05 * 255, rel=0.05)
