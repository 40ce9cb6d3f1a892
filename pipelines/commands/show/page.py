"""The page of `nullspace show` as one picture: four panels side by side, and the model's predictions under each."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pipelines.commands.pictures.options import change_words
from pipelines.commands.show.views import Panel, Shown

_LEAST, _MOST = 360, 640  # pixels a panel is wide: smaller pictures in whole multiples, larger ones reduced
_MARGIN, _GAP, _LINE = 28, 24, 24
_TITLE, _TEXT, _SMALL = 19, 16, 14
_SURFACE, _INK, _MUTED, _ACCENT, _GRID, _ALARM = "#ffffff", "#1f2430", "#5d6575", "#1f62c9", "#e3e6ec", "#b3261e"


def page(shown: Shown) -> bytes:
    """The page as the bytes of a PNG file."""
    pictures = [*(_picture(each.pixels) for each in shown.panels), _picture(shown.difference, like=shown.panels[0])]
    width, height = max(each.width for each in pictures), max(each.height for each in pictures)
    top = _MARGIN + 2 * _LINE + 12
    below = top + _LINE + 8 + height + 14
    total = 2 * _MARGIN + 4 * width + 3 * _GAP, below + 7 * _LINE + _MARGIN
    sheet = Image.new("RGB", total, _SURFACE)
    draw = ImageDraw.Draw(sheet)
    room = total[0] - 2 * _MARGIN
    _write(draw, (_MARGIN, _MARGIN - 6), shown.source.name, _TITLE, _INK, room, bold=True)
    _write(draw, (_MARGIN, _MARGIN + _LINE), _heading(shown, pictures[0]), _SMALL, _MUTED, room)
    for index, (title, picture) in enumerate(zip(_titles(shown), pictures, strict=True)):
        left = _MARGIN + index * (width + _GAP)
        _write(draw, (left, top), title, _TEXT, _INK, width, bold=True)
        sheet.paste(picture, (left, top + _LINE + 8))
        if index < len(shown.panels):
            _predictions(draw, (left, below), shown.panels[index], width)
        else:
            for row, line in enumerate(shown.lines):
                _write(draw, (left, below + row * _LINE), line, _TEXT, _MUTED, width)
    written = io.BytesIO()
    sheet.save(written, "PNG")
    return written.getvalue()


def _titles(shown: Shown) -> Iterable[str]:
    return [*(panel.title for panel in shown.panels), "the noise alone"]


def _heading(shown: Shown, first: Image.Image) -> str:
    height, width = shown.panels[0].pixels.shape[1:]
    ratio = first.width / width
    drawn = "" if ratio == 1 else f", drawn at {100 * ratio:.0f} %"
    drawn += ", with single pixels of the file" if ratio < 1 else ""
    return f"{width}×{height}{drawn}  ·  {shown.model}  ·  {shown.noise}"


def _predictions(draw: ImageDraw.ImageDraw, corner: tuple[int, int], panel: Panel, width: int) -> None:
    left, top = corner
    for row, each in enumerate(panel.top):
        _class(draw, (left, top + row * (_LINE + 6)), each, width)
    lines = change_words(panel.change) if panel.change else []
    for row, line in enumerate(lines):
        alarming = row == 0 and not panel.change["same_prediction"]
        colour = _ALARM if alarming else _ACCENT if row == 0 else _MUTED
        place = (left, top + len(panel.top) * (_LINE + 6) + 4 + row * _LINE)
        _write(draw, place, line, _TEXT if row == 0 else _SMALL, colour, width, bold=row == 0)


def _class(draw: ImageDraw.ImageDraw, corner: tuple[int, int], predicted: Mapping[str, Any], width: int) -> None:
    """Name and probability, and below a bar of the probability's length."""
    left, top = corner
    share = f"{100 * predicted['probability']:.1f} %"
    end = round(_font(_TEXT).getlength(share))
    _write(draw, (left, top), predicted["name"], _TEXT, _INK, width - end - 12)
    draw.text((left + width - end, top), share, font=_font(_TEXT), fill=_INK)
    draw.rectangle((left, top + 22, left + width - 1, top + 24), fill=_GRID)
    length = round(width * predicted["probability"])
    if length:
        draw.rectangle((left, top + 22, left + length - 1, top + 24), fill=_ACCENT)


def _picture(pixels: Tensor, like: Panel | None = None) -> Image.Image:
    """Fitted to a panel: enlarged by a whole factor so that pixels stay squares, or reduced.

    Noise on tokens, which has not the size of the picture `like`, is fitted into its panel.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    if like is not None and like.pixels.shape != pixels.shape:
        image = image.resize(_picture(like.pixels).size, Image.Resampling.NEAREST)
    elif image.width > _MOST or image.height > _MOST:
        image.thumbnail((_MOST, _MOST), Image.Resampling.NEAREST)  # averaged, noise would look weaker than it is
    elif image.width < _LEAST:
        times = min(-(-_LEAST // image.width), max(1, _MOST // image.height))
        image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
    return image


def _write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, colour: str, room: int, bold: bool = False
) -> None:
    """One line, cut short with an ellipsis where it is longer than `room` pixels."""
    font, shown = _font(size, bold), text
    while shown and font.getlength(shown) > room:
        shown = shown.rstrip("…")[:-1].rstrip() + "…" if len(shown) > 1 else ""
    draw.text(corner, shown, font=font, fill=colour)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Pillow's own font has no Δ."""
    from matplotlib import get_data_path

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)
