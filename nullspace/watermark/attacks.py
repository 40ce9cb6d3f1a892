"""What happens to pictures on their way: compression, noise, colour, covering, geometry, each of a stated strength.

The strengths are those of WAVES (An et al. 2024) and of the ssl_watermarking benchmark (Fernandez et al. 2022) as far
as they make sense for pictures of a model's input size. Every attack takes and gives 8-bit images of one size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nullspace.errors import NullspaceError
from nullspace.watermark.luma import luma


@dataclass(frozen=True)
class Kind:
    """One way to change a picture: `apply(image (3,H,W) uint8, strength, generator)`, for strengths `low` to `high`."""

    family: str
    apply: Callable[[Tensor, float, torch.Generator], Tensor]
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class Attack:
    """Kinds with their strengths, one after the other. Its name says all of it: `jpeg_75`, `noise_0.02+jpeg_75`."""

    steps: tuple[tuple[str, float], ...]

    @property
    def name(self) -> str:
        return "+".join(f"{kind}_{strength:g}" for kind, strength in self.steps) or "none"

    @property
    def family(self) -> str:
        """compression, noise, colour, covering, geometry; `combined` for several, `none` for none."""
        return "combined" if len(self.steps) > 1 else KINDS[self.steps[0][0]].family if self.steps else "none"


def attack_named(name: str) -> Attack:
    """The attack of a name: `none`, `kind_strength`, or several joined by `+`. Raises NullspaceError."""
    return Attack(() if name == "none" else tuple(_step(part) for part in name.split("+")))


def attacked(images: Tensor, attack: Attack, seeds: Sequence[int]) -> Tensor:
    """Images (B,3,H,W) uint8 after the attack; what is random in it depends on each image's own seed alone."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise NullspaceError(f"expected 8-bit images (B,3,H,W), got {images.dtype} of shape {tuple(images.shape)}")
    if len(seeds) != len(images):
        raise NullspaceError(f"expected a seed for each of {len(images)} images, got {len(seeds)}")
    done = []
    for image, seed in zip(images.cpu(), seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        for kind, strength in attack.steps:
            image = KINDS[kind].apply(image, strength, generator)
        done.append(image)
    return torch.stack(done) if done else images


def _step(part: str) -> tuple[str, float]:
    kind, _, text = part.rpartition("_")
    if kind not in KINDS:
        raise NullspaceError(f"unknown attack {part!r}; known are none and {', '.join(f'{k}_…' for k in KINDS)}")
    known = KINDS[kind]
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if not known.low <= strength <= known.high:
        raise NullspaceError(
            f"expected a strength of {known.low:g} to {known.high:g} ({known.meaning}) in the attack {part!r}"
        )
    return kind, strength


def _compressed(image: Tensor, kind: str, quality: float) -> Tensor:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(written, kind, quality=round(quality))
    return torch.from_numpy(np.array(Image.open(written).convert("RGB"))).permute(2, 0, 1).contiguous()


def _eight_bit(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _noise(image: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    return _eight_bit(image + 255 * sigma * torch.randn(image.shape, generator=generator))


def _blur(image: Tensor, sigma: float, _: torch.Generator) -> Tensor:
    reach = max(1, math.ceil(4 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    weights = (weights / weights.sum())[None, None, None]
    padded = functional.pad(image[:, None].float(), (reach,) * 4, mode="replicate")
    return _eight_bit(functional.conv2d(functional.conv2d(padded, weights), weights.mT)[:, 0])


def _brightness(image: Tensor, factor: float, _: torch.Generator) -> Tensor:
    return _eight_bit(image * factor)


def _contrast(image: Tensor, factor: float, _: torch.Generator) -> Tensor:
    mean = luma(image).round().mean().round()  # as Pillow's: around the mean grey level
    return _eight_bit(mean + (image - mean) * factor)


def _saturation(image: Tensor, factor: float, _: torch.Generator) -> Tensor:
    grey = luma(image).round()[None]
    return _eight_bit(grey + (image - grey) * factor)


def _erase(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A black rectangle of the image's proportions, anywhere."""
    sides = [max(1, round(side * math.sqrt(share))) for side in image.shape[1:]]
    top, left = (
        int(torch.randint(0, have - side + 1, (), generator=generator))
        for have, side in zip(image.shape[1:], sides, strict=True)
    )
    erased = image.clone()
    erased[:, top : top + sides[0], left : left + sides[1]] = 0
    return erased


def _crop(image: Tensor, share: float, _: torch.Generator) -> Tensor:
    """The middle, so much of each side, enlarged to the old size."""
    height, width = image.shape[1:]
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - rows) // 2, (width - columns) // 2
    return _resized(image[:, top : top + rows, left : left + columns], (height, width))


def _resize(image: Tensor, factor: float, _: torch.Generator) -> Tensor:
    """To so much of each side and back."""
    height, width = image.shape[1:]
    return _resized(_resized(image, (max(1, round(height * factor)), max(1, round(width * factor)))), (height, width))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    options = {"size": size, "mode": "bicubic", "antialias": True, "align_corners": False}
    return _eight_bit(functional.interpolate(image[None].float(), **options)[0])


def _rotate(image: Tensor, degrees: float, _: torch.Generator) -> Tensor:
    """Anticlockwise around the middle, bilinear, black where nothing was."""
    angle, (height, width) = math.radians(degrees), image.shape[1:]
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]])[None]
    grid = functional.affine_grid(turn, [1, 3, height, width], align_corners=False)
    return _eight_bit(functional.grid_sample(image[None].float(), grid, align_corners=False)[0])


def _shift(image: Tensor, pixels: float, _: torch.Generator) -> Tensor:
    """To the right and down by so many pixels; the edge is repeated."""
    by = round(pixels)
    padded = functional.pad(image[None].float(), (by, 0, by, 0), mode="replicate")[0]
    return padded[:, : image.shape[1], : image.shape[2]].to(torch.uint8)


def _flip(image: Tensor, _: float, __: torch.Generator) -> Tensor:
    return image.flip(2)


KINDS: dict[str, Kind] = {
    "jpeg": Kind("compression", lambda image, q, _: _compressed(image, "JPEG", q), 1, 100, "quality, 4:2:0"),
    "webp": Kind("compression", lambda image, q, _: _compressed(image, "WEBP", q), 1, 100, "quality"),
    "noise": Kind("noise", _noise, 0, 1, "sigma, of the pixel range"),
    "blur": Kind("noise", _blur, 0.05, 20, "sigma in pixels"),
    "brightness": Kind("colour", _brightness, 0, 4, "factor"),
    "contrast": Kind("colour", _contrast, 0, 4, "factor around the mean"),
    "saturation": Kind("colour", _saturation, 0, 4, "factor; 0 is grey"),
    "erase": Kind("covering", _erase, 0, 1, "share of the area"),
    "crop": Kind("geometry", _crop, 0.05, 1, "share of each side"),
    "resize": Kind("geometry", _resize, 0.05, 4, "factor"),
    "rotate": Kind("geometry", _rotate, -180, 180, "degrees"),
    "shift": Kind("geometry", _shift, 0, 64, "pixels"),
    "flip": Kind("geometry", _flip, 1, 1, "left to right"),
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
"""Names of the usual attacks, by family."""
