"""Colours by a file's profile against the profile's own mathematics; profiles that cannot be used are noted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.commands.pictures.colour_profiles import srgb, to_srgb
from tests.pipelines import icc

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)


def values(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(float)


def test_without_a_profile_the_pixels_stay() -> None:
    found = to_srgb(RGB, None)
    assert (values(found.rgb) == PIXELS).all() and found.profile is None and found.note is None


def test_srgb_stays_bit_for_bit_with_its_profile() -> None:
    found = to_srgb(RGB, srgb())
    assert (values(found.rgb) == PIXELS).all() and found.profile == srgb() and found.note is None


def test_a_wide_gamut_is_brought_to_srgb() -> None:
    found = to_srgb(RGB, icc.wide_rgb())
    assert np.abs(values(found.rgb) - icc.wide_to_srgb(PIXELS)).max() <= 2
    assert np.abs(values(found.rgb) - PIXELS).max() > 20
    assert found.profile == srgb() and found.note and "converted from its profile (test) to sRGB" in found.note


def test_grey_is_converted_by_its_curve_and_stays_grey() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    found = to_srgb(Image.fromarray(levels), icc.grey())
    got = values(found.rgb)
    assert (got == got[..., :1]).all() and found.profile == srgb()
    assert np.abs(got[..., 0] - 255 * icc.encoded((levels / 255.0) ** icc.GAMMA)).max() <= 2


def test_grey_with_an_rgb_profile_is_read_by_it() -> None:
    assert to_srgb(RGB.convert("L"), srgb()).note is None
    assert to_srgb(RGB.convert("L"), icc.wide_rgb()).profile == srgb()


def test_cmyk_is_converted_by_its_profile() -> None:
    black = np.zeros((1, 256, 4), np.uint8)
    black[0, :, 3] = np.arange(256)
    got = values(to_srgb(Image.fromarray(black, "CMYK"), icc.cmyk()).rgb)
    light = 100 * (1 - black[0, :, 3] / 255.0)
    linear = np.where(light > 8, ((light + 16) / 116) ** 3, light / 903.3)
    assert np.abs(got - 255 * icc.encoded(linear)[None, :, None]).max() <= 3
    assert np.abs(got - values(Image.fromarray(black, "CMYK").convert("RGB"))).max() > 4


@pytest.mark.parametrize(
    ("mode", "profile", "why"),
    [
        ("RGB", b"no profile at all", "cannot open profile"),
        ("RGB", icc.wide_rgb()[:300], "cannot"),
        ("RGB", icc.without_curves(b"RGB "), "cannot build transform"),
        ("L", icc.without_curves(b"GRAY"), "cannot build transform"),
        ("CMYK", icc.without_curves(b"CMYK", b"prtr"), "cannot build transform"),
        ("RGB", icc.cmyk(), "it is for CMYK colours, the pixels are RGB"),
        ("CMYK", icc.wide_rgb(), "it is for RGB colours, the pixels are CMYK"),
    ],
)
def test_a_profile_that_cannot_be_used_is_left_out_with_a_note(mode: str, profile: bytes, why: str) -> None:
    image = RGB.convert(mode)
    found = to_srgb(image, profile)
    assert (values(found.rgb) == np.asarray(image.convert("RGB"))).all() and found.profile is None
    assert found.note and why in found.note and "colours are read without it, and the output has none" in found.note
