"""Images as PNG files for people."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

from pipelines.files import written_aside

DIFFERENCE_GAIN = 4.0


def save_picture(path: Path, image: Tensor) -> None:
    """Write an image (3,H,W) as PNG; values outside [0,1], which no file can hold, are clipped."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    with written_aside(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")


def save_difference(path: Path, before: Tensor, after: Tensor) -> None:
    """Write the change of an image around mid-grey, amplified by DIFFERENCE_GAIN."""
    save_picture(path, 0.5 + DIFFERENCE_GAIN * (after - before))
