"""Brightness, contrast, pixels too large, and JPEG: what cameras and files do."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from nullspace.metrics.draws import Draws

_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
_QUALITY = (25, 18, 15, 10, 7)


def brightness(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """More value in HSV, with hue and saturation held: V is the largest colour, and all three grow as it does."""
    value = image.amax(dim=0, keepdim=True)
    wanted = (value + _BRIGHTER[severity - 1]).clamp(max=1)
    return torch.where(value > 0, image * (wanted / value.clamp_min(1e-9)), wanted)  # black has no hue: it gets grey


def contrast(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Nearer to the mean of each colour."""
    mean = image.double().mean(dim=(1, 2), keepdim=True).float()
    return mean + _CONTRAST[severity - 1] * (image - mean)


def pixelate(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """Pillow's box filter to a share of each side and back."""
    picture = _picture(image)
    small = [int(side * _PIXELATE[severity - 1]) for side in picture.size]
    box = Image.Resampling.BOX
    return _values(picture.resize((small[0], small[1]), box).resize(picture.size, box))


def jpeg_compression(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """As Pillow writes JPEG of a quality and reads it."""
    written = io.BytesIO()
    _picture(image).save(written, "JPEG", quality=_QUALITY[severity - 1])
    return _values(Image.open(written))


def _picture(image: Tensor) -> Image.Image:
    levels = (image * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _values(picture: Image.Image) -> Tensor:
    levels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return levels.view(picture.height, picture.width, 3).permute(2, 0, 1).float() / 255
