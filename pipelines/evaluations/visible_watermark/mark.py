"""A visible mark as pixels: text or a logo with transparency, placed on a canvas of the model's input size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipelines.errors import ConfigError
from pipelines.evaluations.visible_watermark.settings import VisibleWatermarkSettings

JPEG_QUALITIES = (95, 90, 75)  # JPEG qualities at which marked and unmarked pictures are compared again
_GAP = 0.25  # between tiles, of their width
_MARGIN = 0.04  # of the height, between the mark and the edge it is placed at


def make_mark(settings: VisibleWatermarkSettings, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Colour (3,H,W) in [0,1] and opacity (H,W) of the mark. Raises ConfigError when the logo can't be read."""
    picture = _logo(settings.logo) if settings.logo else _text(settings.text)
    height, width = size
    factor = min(settings.scale * width / picture.width, 0.9 * height / picture.height)
    picture = picture.resize(
        (max(1, round(picture.width * factor)), max(1, round(picture.height * factor))), Image.Resampling.LANCZOS
    )
    canvas = Image.new("RGBA", (width, height))
    for corner in _corners(settings.position, canvas.size, picture.size):
        canvas.paste(picture, corner)
    pixels = torch.from_numpy(np.asarray(canvas, np.float32).copy() / 255).permute(2, 0, 1)
    return pixels[:3].contiguous(), settings.opacity * pixels[3].contiguous()


def _corners(position: str, canvas: tuple[int, int], picture: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Where the upper left corner of the mark lies, across and down; in several places for `tile`."""
    width, height = picture
    room = canvas[0] - width, canvas[1] - height
    if position == "tile":  # around one in the middle; every other row is moved by half
        across, down = round((1 + _GAP) * width), height + round(_GAP * min(width, 2 * height))
        for row in range(-(canvas[1] // down) - 1, canvas[1] // down + 2):
            for column in range(-(canvas[0] // across) - 1, canvas[0] // across + 2):
                yield room[0] // 2 + column * across + row % 2 * (across // 2), room[1] // 2 + row * down
        return
    margin = round(_MARGIN * canvas[1])
    across = {"left": margin, "right": room[0] - margin}.get(position.rpartition("-")[2], room[0] // 2)
    down = {"top": margin, "bottom": room[1] - margin}.get(position.partition("-")[0], room[1] // 2)
    yield max(across, 0), max(down, 0)


def _text(text: str) -> Image.Image:
    # Drawn large and scaled down once: the letters' edges stay smooth at any size.
    font = ImageFont.load_default(size=160)
    style: dict[str, Any] = {"font": font, "stroke_width": 6, "spacing": 24, "align": "center"}
    measured = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, **style)
    left, top, right, bottom = (round(edge) for edge in measured)
    picture = Image.new("RGBA", (right - left, bottom - top))
    ImageDraw.Draw(picture).multiline_text((-left, -top), text, fill="white", stroke_fill="white", **style)
    return picture


def _logo(path: str) -> Image.Image:
    try:
        return Image.open(Path(path).expanduser()).convert("RGBA")
    except OSError as error:
        raise ConfigError(f"logo: cannot read {path} as a picture: {error}; give a PNG file") from error
