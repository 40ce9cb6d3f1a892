"""Images as a model takes them, float in [0,1], and as files keep them, 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from nullspace.errors import ImageRangeError


def check_unit_range(images: Tensor) -> None:
    """Raise ImageRangeError unless every value is a number in [0,1]."""
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise ImageRangeError(
            f"expected pixels in [0,1], got {float(images.min()):.3g} to {float(images.max()):.3g}; "
            "divide 8-bit images by 255 and do not normalise: the model does that itself"
        )


def round_to_uint8(images: Tensor) -> Tensor:
    """Nearest 8-bit image (uint8) of float images in [0,1]: what a PNG file keeps. Raises ImageRangeError outside."""
    check_unit_range(images)
    return (images * 255).round().to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Float images in [0,1] of 8-bit images; `round_to_uint8` takes them back without loss."""
    if images.dtype != torch.uint8:
        raise ImageRangeError(f"expected 8-bit images (uint8), got {images.dtype}")
    return images.float() / 255
