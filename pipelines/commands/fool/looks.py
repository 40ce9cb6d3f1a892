"""What people are to see: another picture, grey, or noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nullspace.metrics.draws import Draws
from pipelines.commands.pictures.files import Picture, read_picture
from pipelines.errors import ConfigError

NOTHING = ("grey", "noise")
_GREY = 128


@dataclass(frozen=True, eq=False)
class Look:
    """A picture of its own size, and the name it goes by."""

    name: str
    picture: Picture

    @property
    def of_nothing(self) -> bool:
        """Whether there is nothing to recognise in it."""
        return self.name in NOTHING

    def fitted(self, size: tuple[int, int]) -> Tensor:
        """Its pixels (3,H,W) uint8 in the size of another picture: resized, and cropped in the middle."""
        height, width = size
        if self.picture.pixels.shape[1:] == (height, width):
            return self.picture.pixels
        image = Image.fromarray(self.picture.pixels.permute(1, 2, 0).numpy())
        fitted = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def look_of(text: str, size: tuple[int, int], seed: int) -> Look:
    """The look that `--like` names; grey and noise have the `size` (H,W) of the image.

    Raises ConfigError, DecodeError.
    """
    if text not in NOTHING:
        path = Path(text).expanduser()
        if not path.is_file():
            raise ConfigError(f"--like {text}: expected a picture file, grey or noise")
        return Look(path.name, read_picture(path))
    pixels = torch.full((3, *size), _GREY, dtype=torch.uint8) if text == "grey" else _noise(size, seed)
    return Look(text, Picture(pixels, None, pixels, None))


def _noise(size: tuple[int, int], seed: int) -> Tensor:
    return (256 * Draws(seed, "fool_look", ["noise"]).uniform(3, *size)[0]).to(torch.uint8)
