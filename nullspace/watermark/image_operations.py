"""The operation behind each kind of distortion: images (n,3,H,W) uint8, a strength and draws to such images.

torchvision has the geometry, Pillow the compression. What is written out here differs in torchvision: its colour
operations cut off fractions instead of rounding them, its weights of luma have four digits, its blur mirrors the
border, its noise is that of a generator, and its rotation is off by one level at a few pixels.
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

from nullspace.metrics.draws import Draws
from nullspace.watermark.luma import luma


def _compressed(images: Tensor, kind: str, quality: float) -> Tensor:
    """Each image as a file of its own keeps it; libjpeg and libwebp work on the CPU."""
    files = [_through_file(image, kind, round(quality)) for image in images.cpu().permute(0, 2, 3, 1).numpy()]
    return torch.stack(files).permute(0, 3, 1, 2).contiguous().to(images.device)


def _through_file(image: np.ndarray, kind: str, quality: int) -> Tensor:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(written, kind, quality=quality)
    return torch.from_numpy(np.array(Image.open(written).convert("RGB")))


def _eight_bit(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _noise(images: Tensor, sigma: float, draws: Draws | None) -> Tensor:
    return _eight_bit(images + 255 * sigma * _needed(draws).normal(*images.shape[1:]))


def _blur(images: Tensor, sigma: float, _: Draws | None) -> Tensor:
    rows, columns = (_gaussians(side, sigma).to(images.device) for side in images.shape[2:])
    return _eight_bit(rows @ images.float() @ columns.T)


def _gaussians(side: int, sigma: float) -> Tensor:
    """(side,side): a Gaussian around every place, the edge repeated; a product with it costs less than a filter."""
    reach = max(1, math.ceil(4 * sigma))
    apart = torch.arange(-reach, reach + 1)
    weights = torch.exp(-(apart.double() ** 2) / (2 * sigma**2))
    seen = (torch.arange(side)[:, None] + apart).clamp(0, side - 1)
    found = torch.zeros(side, side, dtype=torch.float64)
    return found.scatter_add_(1, seen, (weights / weights.sum()).expand(side, -1)).float()


def _brightness(images: Tensor, factor: float, _: Draws | None) -> Tensor:
    return _eight_bit(images * factor)


def _contrast(images: Tensor, factor: float, _: Draws | None) -> Tensor:
    # As Pillow's: around the mean grey level, whole numbers whose sum is exact in any order in float64.
    mean = luma(images).round().double().mean(dim=(1, 2)).round().float()[:, None, None, None]
    return _eight_bit(mean + (images - mean) * factor)


def _saturation(images: Tensor, factor: float, _: Draws | None) -> Tensor:
    grey = luma(images).round()[:, None]
    return _eight_bit(grey + (images - grey) * factor)


def _erase(images: Tensor, share: float, draws: Draws | None) -> Tensor:
    """A black rectangle of the image's proportions, anywhere."""
    covered = [
        _stretch(side, max(1, round(side * math.sqrt(share))), _needed(draws).stream(axis + 1))
        for axis, side in enumerate(images.shape[2:])
    ]
    return images.masked_fill((covered[0][:, :, None] & covered[1][:, None, :])[:, None], 0)


def _stretch(side: int, length: int, draws: Draws) -> Tensor:
    """(n,side) bool: `length` neighbours out of `side`."""
    first = draws.integers(side - length + 1)[:, None]
    at = torch.arange(side, device=draws.device)
    return (at >= first) & (at < first + length)


def _crop(images: Tensor, share: float, _: Draws | None) -> Tensor:
    """The middle, `share` of each side, enlarged to the old size."""
    height, width = images.shape[2:]
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    middle = transforms.crop(images, (height - rows) // 2, (width - columns) // 2, rows, columns)
    return _resized(middle, (height, width))


def _resize(images: Tensor, factor: float, _: Draws | None) -> Tensor:
    """To `factor` of each side and back."""
    height, width = images.shape[2:]
    return _resized(_resized(images, (max(1, round(height * factor)), max(1, round(width * factor)))), (height, width))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    # As floats: on 8-bit images torchvision's own rounding depends on whether the processor has AVX2.
    values = transforms.resize(images.float(), list(size), InterpolationMode.BICUBIC, antialias=True)
    return _eight_bit(values)


def _rotate(images: Tensor, degrees: float, _: Draws | None) -> Tensor:
    """Anticlockwise around the middle, bilinear, black outside the image."""
    angle, (height, width) = math.radians(degrees), images.shape[2:]
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]])[None]
    grid = functional.affine_grid(turn, [1, 3, height, width], align_corners=False).to(images.device)
    turned = functional.grid_sample(images.float(), grid.expand(len(images), -1, -1, -1), align_corners=False)
    return _eight_bit(turned)


def _shift(images: Tensor, pixels: float, _: Draws | None) -> Tensor:
    """To the right and down by `pixels`; the edge is repeated."""
    by = round(pixels)
    padded = transforms.pad(images, [by, by, 0, 0], padding_mode="edge")
    return transforms.crop(padded, 0, 0, images.shape[2], images.shape[3])


def _needed(draws: Draws | None) -> Draws:
    assert draws is not None, "`distorted` asks for them"
    return draws


OPERATIONS: dict[str, Callable[[Tensor, float, Draws | None], Tensor]] = {
    "jpeg": lambda images, quality, _: _compressed(images, "JPEG", quality),
    "webp": lambda images, quality, _: _compressed(images, "WEBP", quality),
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
    "flip": lambda images, _, __: transforms.horizontal_flip(images),
}
"""By the names of `distortions.KINDS`."""
