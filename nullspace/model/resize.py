"""The model's own resizing and cropping as two matrices: model pixels = rows · image · columnsᵀ, per colour channel.

timm's evaluation transform resizes with PIL and crops the centre. Up to PIL's rounding to 8 bits after each direction
(about one grey level together) and its clipping to 0..255, that is linear and separable, and exactly this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.preprocessing import Preprocessing
from nullspace.model.shapes import Bool, Float


@dataclass(frozen=True, eq=False)
class Resize:
    """`rows` (h,H) and `columns` (w,W) float64: resize and crop of files of H×W pixels to the model's h×w."""

    rows: Float[Tensor, "h H"]
    columns: Float[Tensor, "w W"]

    @property
    def file_size(self) -> tuple[int, int]:
        """Height and width of the file in pixels."""
        return self.rows.shape[1], self.columns.shape[1]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the model is given."""
        return self.rows.shape[0], self.columns.shape[0]

    @property
    def norm(self) -> float:
        """The operator's spectral norm, that of rows times that of columns."""
        return float(torch.linalg.matrix_norm(self.rows, 2) * torch.linalg.matrix_norm(self.columns, 2))

    @property
    def read(self) -> Bool[Tensor, "H W"]:
        """Which pixels of the file (H,W) have any weight in what the model is given; the others are free."""
        return self.rows.ne(0).any(dim=0)[:, None] & self.columns.ne(0).any(dim=0)

    @property
    def only_crops(self) -> bool:
        """Whether every pixel of the model's is one of the file's as it is."""
        return all(bool(((each == 0) | (each == 1)).all()) for each in (self.rows, self.columns))

    def apply(self, images: Float[Tensor, "... H W"]) -> Float[Tensor, "... h w"]:
        """Images or changes (...,H,W) to (...,h,w), in their dtype."""
        rows, columns = self.rows.to(images), self.columns.to(images)
        return (rows @ images) @ columns.T

    def model_pixels(self, images: Float[Tensor, "... H W"]) -> Float[Tensor, "... h w"]:
        """What PIL makes of images (...,H,W) in [0,1] but for its rounding: clipped after each direction."""
        rows, columns = self.rows.to(images), self.columns.to(images)
        return (rows @ (images @ columns.T).clamp(0, 1)).clamp(0, 1)

    def adjoint(self, images: Float[Tensor, "... h w"]) -> Float[Tensor, "... H W"]:
        """The transpose of `apply`: (...,h,w) to (...,H,W)."""
        rows, columns = self.rows.to(images), self.columns.to(images)
        return rows.T @ (images @ columns)


def resize_of(preprocessing: Preprocessing, file_size: tuple[int, int]) -> Resize:
    """What `preprocessing.transform()` does to files of `file_size` (H,W), apart from rounding and clipping.

    Raises NullspaceError for crop mode "border", other filters than box, bilinear, hamming, bicubic, lanczos, and where
    the crop would reach beyond the image.
    """
    if len(file_size) != 2 or min(file_size) < 1:
        raise NullspaceError(f"expected a file size (H,W) of at least one pixel, got {tuple(file_size)}")
    resized = _resized_size(preprocessing, file_size)
    if any(have < want for have, want in zip(resized, preprocessing.input_size, strict=True)):
        raise NullspaceError(
            f"expected at least {preprocessing.input_size} pixels after resizing, got {resized} from a file of "
            f"{tuple(file_size)}: the crop would be padded; use crop_pct <= 1"
        )
    rows, columns = (
        resize_matrix(file, target, preprocessing.interpolation)[_crop(target, wanted)]
        for file, target, wanted in zip(file_size, resized, preprocessing.input_size, strict=True)
    )
    return Resize(rows, columns)


def resize_matrix(source: int, target: int, interpolation: str) -> Float[Tensor, "target source"]:
    """PIL's resampling of `source` pixels to `target` as a matrix (target,source), float64; its rows sum to 1.

    Shrinking widens the filter by the ratio (antialiasing). Source: Pillow, Resample.c, `precompute_coeffs`.
    """
    if interpolation not in FILTERS:
        raise NullspaceError(f"expected an interpolation of {', '.join(FILTERS)}, got {interpolation!r}")
    reach, weigh = FILTERS[interpolation]
    scale = source / target
    width = max(scale, 1.0)
    matrix = torch.zeros(target, source, dtype=torch.float64)
    for index in range(target):
        centre = (index + 0.5) * scale
        first = max(int(centre - reach * width + 0.5), 0)
        last = min(int(centre + reach * width + 0.5), source)
        weights = torch.tensor([weigh((at + 0.5 - centre) / width) for at in range(first, last)], dtype=torch.float64)
        matrix[index, first:last] = weights / weights.sum()
    return matrix


def _resized_size(preprocessing: Preprocessing, file_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width after timm's resize and before the crop (timm, `transforms_imagenet_eval`)."""
    height, width = (math.floor(side / preprocessing.crop_pct) for side in preprocessing.input_size)
    if preprocessing.crop_mode == "squash":
        return height, width
    if preprocessing.crop_mode != "center":
        raise NullspaceError(
            f"expected crop mode 'center' or 'squash', got {preprocessing.crop_mode!r}, which pads the image with a "
            "colour of its own; prepare the files at the model's input size instead"
        )
    if height == width:  # torchvision's Resize: the long side is rounded down
        short, long = min(file_size), max(file_size)
        longer = int(height * long / short)
        return (height, longer) if file_size[0] <= file_size[1] else (longer, height)
    ratio = min(file_size[0] / height, file_size[1] / width)  # timm's ResizeKeepRatio: rounded to the nearest
    return round(file_size[0] / ratio), round(file_size[1] / ratio)


def _crop(have: int, want: int) -> slice:
    first = round((have - want) / 2)  # as torchvision's center_crop: halves go to the even number
    return slice(first, first + want)


def _bicubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0


FILTERS: dict[str, tuple[float, Callable[[float], float]]] = {
    "box": (0.5, lambda x: float(-0.5 < x <= 0.5)),
    "bilinear": (1.0, lambda x: max(1.0 - abs(x), 0.0)),
    "hamming": (1.0, lambda x: _sinc(x) * (0.54 + 0.46 * math.cos(math.pi * x)) if abs(x) < 1 else 0.0),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, lambda x: _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0),
}
"""Half width and weight of PIL's filters, by timm's names."""
