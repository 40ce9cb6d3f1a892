"""Finding a mark again after a misaligned crop or a small resize: undo every shift and scale, and read each time.

A kernel mark lies on the patch grid: moved by a pixel it cannot be read. The search costs one reading for every shift
and scale tried, and the p-value is corrected for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.errors import NullspaceError
from nullspace.model.shapes import UInt8
from nullspace.watermark.payload.detection import Detection
from nullspace.watermark.payload.hidden_mark import HiddenMark

_TOGETHER = 64  # readings in a batch


@dataclass(frozen=True)
class Realigned:
    """The best reading, its p-value corrected for all `readings`, and the geometry undone before it.

    The image was assumed `scale` times too large, and shifted by `down` and `across` pixels.
    """

    detection: Detection
    scale: float
    down: int
    across: int
    readings: int


def realign(
    mark: HiddenMark,
    image: UInt8[Tensor, "3 H W"],
    *,
    shift: int = 8,
    scales: Sequence[float] = (1.0,),
    false_positive_rate: float = 1e-6,
    length: int | None = None,
    psnr: float | None = None,
) -> Realigned:
    """Look for a mark in one image (3,H,W) uint8 of the model's size, moved by up to `shift` pixels each way.

    Makes (2·shift + 1)² readings for each of `scales`, about 3 ms each, a third of it where `length` and `psnr` are
    known. A scale must be right within half a pixel at the edge: 0.4 % at 224 pixels.
    """
    if image.ndim != 3 or image.dtype != torch.uint8:
        raise NullspaceError(f"expected one 8-bit image (3,H,W), got {image.dtype} of shape {tuple(image.shape)}")
    if not 0 <= shift < min(image.shape[1:]) or not scales or min(scales) <= 0:
        raise NullspaceError(f"expected a shift of 0 or more pixels and scales above 0, got {shift} and {list(scales)}")
    steps = [(down, across) for down in range(-shift, shift + 1) for across in range(-shift, shift + 1)]
    readings, best = len(steps) * len(scales), None
    for scale in scales:
        padded = _padded(image, scale, shift)
        for start in range(0, len(steps), _TOGETHER):
            part = steps[start : start + _TOGETHER]
            moved = torch.stack([_window(padded, image, shift, *step) for step in part])
            found = mark.detect(
                moved, false_positive_rate=false_positive_rate / readings, length=length, psnr=psnr, blurs=()
            )
            for step, each in zip(part, found, strict=True):
                if best is None or each.rank > best[0].rank:
                    best = (each, scale, *step)
    assert best is not None
    detection, scale, down, across = best
    corrected = replace(detection, p_value=min(1.0, detection.p_value * readings), tried=detection.tried * readings)
    return Realigned(corrected, scale, down, across, readings)


def scales_within(size: int, stretch: float) -> list[float]:
    """Scales that differ by one pixel of `size`, from 1 - `stretch` to 1 + `stretch`, nearest to 1 first."""
    if not 0 <= stretch < 0.5:
        raise NullspaceError(f"expected a stretch of 0 to 0.5, as a share of the size, got {stretch}")
    pixels = math.ceil(size * stretch)
    found = [size / (size + away) for away in range(-pixels, pixels + 1)]
    return sorted((each for each in found if abs(each - 1) <= stretch + 1e-9), key=lambda each: abs(each - 1))


def _padded(image: Tensor, scale: float, shift: int) -> Tensor:
    """The image reduced by `scale` around its middle, its edge repeated for `shift` pixels beyond its size."""
    height, width = image.shape[1:]
    size = (max(1, round(height / scale)), max(1, round(width / scale)))
    values = image[None].float()
    if size != (height, width):
        values = functional.interpolate(values, size=size, mode="bicubic", antialias=True, align_corners=False)
    room = [(want + 2 * shift - have) / 2 for want, have in zip((height, width), size, strict=True)]
    edges = [math.floor(room[1]), math.ceil(room[1]), math.floor(room[0]), math.ceil(room[0])]
    values = values[..., max(0, -edges[2]) :, max(0, -edges[0]) :]  # enlarged beyond the frame: cropped
    values = values[..., : height + 2 * shift, : width + 2 * shift]
    missing = (height + 2 * shift - values.shape[2], width + 2 * shift - values.shape[3])
    before = (max(0, edges[2]), max(0, edges[0]))
    padding = (before[1], missing[1] - before[1], before[0], missing[0] - before[0])
    return functional.pad(values, padding, mode="replicate")[0].round().clamp(0, 255).to(torch.uint8)


def _window(padded: Tensor, image: Tensor, shift: int, down: int, across: int) -> Tensor:
    """The window of the image's size, `down` and `across` of the middle."""
    top, left = shift + down, shift + across
    return padded[:, top : top + image.shape[1], left : left + image.shape[2]]
