"""Brightness, contrast, pixels too large, and JPEG: what cameras and files do."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nullspace.metrics.draws import Draws

if TYPE_CHECKING:  # Pillow, when a picture is made
    from PIL.Image import Image as Picture

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
    from PIL import Image

    picture, box = _picture(image), Image.Resampling.BOX
    width, height = (int(side * _PIXELATE[severity - 1]) for side in picture.size)
    return _values(picture.resize((width, height), box).resize(picture.size, box))


def jpeg_compression(image: Tensor, severity: int, draws: Draws) -> Tensor:
    """As Pillow writes JPEG of a quality and reads it."""
    from PIL import Image

    written = io.BytesIO()
    _picture(image).save(written, "JPEG", quality=_QUALITY[severity - 1])
    return _values(Image.open(written))


def _picture(image: Tensor) -> Picture:
    from PIL import Image

    levels = (image * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _values(picture: Picture) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
