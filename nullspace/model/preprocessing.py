"""How a file becomes the pixels a model reads: timm's own evaluation transform, stopped before normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from nullspace.errors import CannotCutError, ImageRangeError, NullspaceError

if TYPE_CHECKING:
    from PIL.Image import Image

RANGE_TOLERANCE = 1e-4  # what rounding and resampling in float32 may leave outside [0,1]


@dataclass(frozen=True)
class Preprocessing:
    """A model's evaluation preprocessing: size in pixels (H,W), mean and std per RGB channel for images in [0,1]."""

    input_size: tuple[int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def transform(self) -> Callable[[Image], Tensor]:
        """An RGB PIL image to a uint8 tensor (3,H,W): what timm's evaluation transform has before normalising."""
        return create_transform(  # pyright: ignore[reportReturnType]
            input_size=(3, *self.input_size),
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            mean=self.mean,
            std=self.std,
            normalize=False,
        )

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B,3,H,W) in [0,1] to normalised units, in the images' dtype and on their device."""
        mean, std = (torch.tensor(values, dtype=images.dtype, device=images.device) for values in (self.mean, self.std))
        return (images - mean[:, None, None]) / std[:, None, None]

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def key(self) -> str:
        """Short text of what decides the stored pixels: models with the same key can share one copy of the images."""
        height, width = self.input_size
        parts = [f"{height}x{width}", self.interpolation, f"crop{self.crop_pct:g}", self.crop_mode]
        if self.crop_mode == "border":  # the border is filled with the mean colour, so here the mean decides pixels too
            parts.append("fill" + "-".join(str(round(255 * value)) for value in self.mean))
        return "-".join(parts)


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """The preprocessing timm declares for `model`, at the size its patch embedding was built for.

    Raises CannotCutError when the model does not take three colour channels.
    """
    declared = resolve_model_data_config(model)
    channels, *size = declared["input_size"]
    if channels != 3 or len(declared["mean"]) != 3:
        raise CannotCutError(f"expected a model of 3 colour channels, got one of {channels}; choose an RGB model")
    # A model built with its own img_size keeps the declared size of its pretrained weights: the stem knows better.
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    height, width = built_for or size
    return Preprocessing(
        input_size=(int(height), int(width)),
        interpolation=str(declared["interpolation"]),
        crop_pct=float(declared["crop_pct"]),
        crop_mode=str(declared["crop_mode"]),
        mean=tuple(float(value) for value in declared["mean"]),  # pyright: ignore[reportArgumentType]
        std=tuple(float(value) for value in declared["std"]),  # pyright: ignore[reportArgumentType]
    )


def check_images(images: Tensor, input_size: tuple[int, int], check_range: bool) -> None:
    """Raise unless `images` are float (B,3,H,W) of `input_size` and, with `check_range`, in [0,1].

    Raises ImageRangeError for integers and values outside, NullspaceError for another shape.
    """
    expected = (3, *input_size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise NullspaceError(
            f"expected images of shape (B,{','.join(map(str, expected))}), got {tuple(images.shape)}; prepare them "
            "with the model's preprocessing.transform()"
        )
    if not images.is_floating_point():
        raise ImageRangeError(f"expected float images in [0,1], got {images.dtype}; divide 8-bit images by 255")
    if check_range and images.numel():
        low, high = (float(value) for value in torch.aminmax(images.detach()))
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # so put that NaN is refused too
            raise ImageRangeError(
                f"expected images in [0,1], got values from {low:.4g} to {high:.4g}; do not normalise them (the model "
                "does) and divide 8-bit values by 255"
            )
