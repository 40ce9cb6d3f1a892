"""Conversion of colours by a file's profile to sRGB, which viewers, programs and models assume."""

from __future__ import annotations

import io
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_CLOSE = 1  # of 255: the rounding error between variants of the sRGB curve of different programs


class Converted(NamedTuple):
    """An image in RGB, the profile that fits it (None if there was no usable one), and a note for the user."""

    rgb: Image.Image
    profile: bytes | None
    note: str | None = None


def to_srgb(image: Image.Image, profile: bytes | None) -> Converted:
    """An image of mode L, RGB or CMYK by its profile in sRGB (relative colorimetric, black point compensated).

    Pixels with an sRGB profile are kept, and so is the profile. A profile that is damaged, or for another colour space
    than the image's, is dropped with a note: the colours are then converted by Pillow.
    """
    if not profile:
        return Converted(image.convert("RGB"), None)
    try:
        space = _space(profile)
        if image.mode == "L" and space == "RGB":  # the same curve for three equal channels
            image = image.convert("RGB")
        if space != _SPACES[image.mode]:
            raise ValueError(f"it is for {space or 'unknown'} colours, the pixels are {_SPACES[image.mode]}")
        transform = ImageCms.buildTransform(
            _opened(profile),
            _opened(srgb()),
            image.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if _changes_nothing(transform, image.mode):
            return Converted(image.convert("RGB"), profile if space == "RGB" else srgb())
        converted = _applied(transform, image)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        note = f"its colour profile cannot be used ({error}): colours are read without it, and the output has none"
        return Converted(image.convert("RGB"), None, note)
    return Converted(converted, srgb(), f"colours converted from its profile ({_name(profile)}) to sRGB")


@cache
def srgb() -> bytes:
    """The bytes of an sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _space(profile: bytes) -> str:
    opened: Any = _opened(profile).profile
    return opened.xcolor_space.strip()


def _name(profile: bytes) -> str:
    opened: Any = _opened(profile).profile
    return (opened.profile_description or opened.xcolor_space).strip()


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the transform leaves a grid of colours, or all greys, unchanged up to rounding."""
    if mode == "CMYK":
        return False
    if mode == "L":
        before = np.arange(256, dtype=np.uint8)[None]
    else:
        before = np.stack(np.meshgrid(*[np.arange(0, 256, 17, dtype=np.uint8)] * 3), axis=-1).reshape(1, -1, 3)
    grid = Image.fromarray(before)
    after = np.asarray(_applied(transform, grid)).astype(int)
    return bool(np.abs(after - np.asarray(grid.convert("RGB")).astype(int)).max() <= _CLOSE)


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:
        raise ValueError("it converts nothing")
    if image.mode != "L":
        return converted
    return Image.merge("RGB", [converted.getchannel("G")] * 3)  # rounding must not colour a grey image
