"""What happens to marked pictures on their way: compression, noise, colour, covering, geometry, of a stated strength.

The strengths are those of WAVES (An et al. 2024) and of the ssl_watermarking benchmark (Fernandez et al. 2022) as far
as they make sense for pictures of a model's input size. Every distortion maps 8-bit images to 8-bit images of the same
size. `image_operations` has the operation behind each kind; it is loaded when the first image is distorted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws
from nullspace.model.shapes import UInt8


@dataclass(frozen=True)
class Kind:
    """One way to change a picture, with a strength from `low` to `high` that means `meaning`."""

    family: str
    low: float
    high: float
    meaning: str
    is_random: bool = False


@dataclass(frozen=True)
class Distortion:
    """Kinds with their strengths, applied in order. The name states all of it: `jpeg_75`, `noise_0.02+jpeg_75`."""

    steps: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        return "+".join(f"{kind}_{strength:g}" for kind, strength in self.steps) or "none"

    @property
    def family(self) -> str:
        """compression, noise, colour, covering, geometry; `combined` for several, `none` for none."""
        return "combined" if len(self.steps) > 1 else KINDS[self.steps[0][0]].family if self.steps else "none"

    @property
    def is_random(self) -> bool:
        """Whether it needs draws."""
        return any(KINDS[kind].is_random for kind, _ in self.steps)


def distortion_named(name: str) -> Distortion:
    """The distortion of a name: `none`, `kind_strength`, or several joined by `+`. Raises NullspaceError."""
    return Distortion(() if name == "none" else tuple(_step(part) for part in name.split("+")))


def distorted(
    images: UInt8[Tensor, "B 3 H W"], distortion: Distortion, draws: Draws | None = None
) -> UInt8[Tensor, "B 3 H W"]:
    """Images (B,3,H,W) uint8 after the distortion, on their device; `draws` decide its random part, where it has one.

    Raises NullspaceError on other images, or where draws are missing or of other images.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise NullspaceError(f"expected 8-bit images (B,3,H,W), got {images.dtype} of shape {tuple(images.shape)}")
    if draws is None and distortion.is_random:
        raise NullspaceError(f"expected draws for {distortion.name}, which has a random part")
    if draws is not None and len(draws) != len(images):
        raise NullspaceError(f"expected draws for each of {len(images)} images, got {len(draws)}")
    # Not before: configs are checked for the names of distortions, and importing torchvision takes seconds.
    from nullspace.watermark.image_operations import OPERATIONS

    source = None if draws is None else draws.to(images.device)
    for number, (kind, strength) in enumerate(distortion.steps if len(images) else ()):
        images = OPERATIONS[kind](images, strength, None if source is None else source.stream(number))
    return images


def _step(part: str) -> tuple[str, float]:
    kind, _, text = part.rpartition("_")
    if kind not in KINDS:
        raise NullspaceError(f"unknown distortion {part!r}; known are none and {', '.join(f'{k}_…' for k in KINDS)}")
    known = KINDS[kind]
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not known.low <= strength <= known.high:
        raise NullspaceError(
            f"expected a strength of {known.low:g} to {known.high:g} ({known.meaning}) in the distortion {part!r}"
        )
    return kind, strength


KINDS: dict[str, Kind] = {
    "jpeg": Kind("compression", 1, 100, "quality, 4:2:0"),
    "webp": Kind("compression", 1, 100, "quality"),
    "noise": Kind("noise", 0, 1, "sigma, of the pixel range", is_random=True),
    "blur": Kind("noise", 0.05, 20, "sigma in pixels"),
    "brightness": Kind("colour", 0, 4, "factor"),
    "contrast": Kind("colour", 0, 4, "factor around the mean"),
    "saturation": Kind("colour", 0, 4, "factor; 0 is grey"),
    "erase": Kind("covering", 0, 1, "share of the area", is_random=True),
    "crop": Kind("geometry", 0.05, 1, "share of each side"),
    "resize": Kind("geometry", 0.05, 4, "factor"),
    "rotate": Kind("geometry", -180, 180, "degrees"),
    "shift": Kind("geometry", 0, 64, "pixels"),
    "flip": Kind("geometry", 1, 1, "left to right"),
}

STANDARD = (
    *("none", "jpeg_90", "jpeg_75", "jpeg_50", "jpeg_30", "jpeg_10", "webp_90", "webp_75", "webp_50"),
    *("noise_0.01", "noise_0.02", "noise_0.05", "noise_0.1", "blur_0.5", "blur_1", "blur_2"),
    *("brightness_1.1", "brightness_1.5", "brightness_2", "contrast_0.8", "contrast_1.2", "contrast_1.5", "contrast_2"),
    *("saturation_0", "saturation_0.5", "saturation_1.5", "saturation_2", "erase_0.1", "erase_0.25"),
    *("crop_0.9", "crop_0.7", "crop_0.5", "resize_0.9", "resize_0.7", "resize_0.5"),
    *("rotate_2", "rotate_15", "rotate_45", "shift_3", "flip_1"),
    *("jpeg_75+brightness_1.1", "noise_0.02+jpeg_75", "saturation_0+jpeg_75", "crop_0.9+jpeg_75"),
)
"""Names of the usual distortions, by family."""
