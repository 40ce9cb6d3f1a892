"""The operation behind each kind of distortion: an image (3,H,W) uint8, a strength and a generator to such an image.

torchvision has the geometry, Pillow the compression. What is written out here differs in torchvision: its colour
operations cut off fractions instead of rounding them, its weights of luma have four digits, its blur mirrors the
border, its noise takes no generator, and its rotation is off by one level at a few pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from nullspace.watermark.luma import luma


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
    height, width = (max(1, round(side * math.sqrt(share))) for side in image.shape[1:])
    top, left = (
        int(torch.randint(0, have - side + 1, (), generator=generator))
        for have, side in zip(image.shape[1:], (height, width), strict=True)
    )
    return transforms.erase(image, top, left, height, width, image.new_zeros(()))


def _crop(image: Tensor, share: float, _: torch.Generator) -> Tensor:
    """The middle, `share` of each side, enlarged to the old size."""
    height, width = image.shape[1:]
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    middle = transforms.crop(image, (height - rows) // 2, (width - columns) // 2, rows, columns)
    return _resized(middle, (height, width))


def _resize(image: Tensor, factor: float, _: torch.Generator) -> Tensor:
    """To `factor` of each side and back."""
    height, width = image.shape[1:]
    return _resized(_resized(image, (max(1, round(height * factor)), max(1, round(width * factor)))), (height, width))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    # As floats: on 8-bit images torchvision's own rounding depends on whether the processor has AVX2.
    values = transforms.resize(image.float(), list(size), InterpolationMode.BICUBIC, antialias=True)
    return _eight_bit(values)


def _rotate(image: Tensor, degrees: float, _: torch.Generator) -> Tensor:
    """Anticlockwise around the middle, bilinear, black outside the image."""
    angle, (height, width) = math.radians(degrees), image.shape[1:]
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]])[None]
    grid = functional.affine_grid(turn, [1, 3, height, width], align_corners=False)
    return _eight_bit(functional.grid_sample(image[None].float(), grid, align_corners=False)[0])


def _shift(image: Tensor, pixels: float, _: torch.Generator) -> Tensor:
    """To the right and down by `pixels`; the edge is repeated."""
    by = round(pixels)
    padded = transforms.pad(image, [by, by, 0, 0], padding_mode="edge")
    return transforms.crop(padded, 0, 0, image.shape[1], image.shape[2])


OPERATIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "jpeg": lambda image, quality, _: _compressed(image, "JPEG", quality),
    "webp": lambda image, quality, _: _compressed(image, "WEBP", quality),
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "erase": _erase,
    "crop": _crop,
    "resize": _resize,
    "rotate": _rotate,
    "shift": _shift,
    "flip": lambda image, _, __: transforms.horizontal_flip(image),
}
"""By the names of `distortions.KINDS`."""
