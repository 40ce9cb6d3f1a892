"""Maps as people look at them: as large as the image, from 0 to 1, laid over it in colour."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

_COLOURS = ((0.05, 0.03, 0.20), (0.45, 0.10, 0.45), (0.80, 0.25, 0.30), (0.98, 0.60, 0.15), (0.99, 0.98, 0.65))
_BRIGHTNESS = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
_BRIGHTEST = 0.995  # share of a map's pixels that are not drawn at full strength
_STRENGTH = 0.6  # of the map's colour beside the image, which is grey below it


def as_drawn(model: SplitViT, maps: Float[Tensor, "B N"]) -> Float[Tensor, "B 1 H W"]:
    """Maps over patches as large as the image, from 0 (smallest value) to 1 (largest); constant ones are 0."""
    cells = maps.unflatten(1, model.grid)[:, None].float()
    large = functional.interpolate(cells, size=model.preprocessing.input_size, mode="bilinear", align_corners=False)
    least, most = large.amin(dim=(1, 2, 3), keepdim=True), large.amax(dim=(1, 2, 3), keepdim=True)
    return (large - least) / (most - least).clamp_min(torch.finfo(large.dtype).tiny)


def pixels_as_drawn(maps: Float[Tensor, "B H W"]) -> Float[Tensor, "B 1 H W"]:
    """Maps of pixels, none negative, from 0 to 1 at all but the few largest values, which are far above the others."""
    most = maps.flatten(1).quantile(_BRIGHTEST, dim=1)[:, None, None].clamp_min(torch.finfo(maps.dtype).tiny)
    return (maps / most).clamp(0, 1)[:, None]


def laid_over(images: Float[Tensor, "B 3 H W"], drawn: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Images in [0,1], grey, below maps of `as_drawn` in colour, dark where a map is small, light where it is large."""
    weights = torch.tensor(_BRIGHTNESS, dtype=images.dtype, device=images.device)[:, None, None]
    grey = (images * weights).sum(dim=1, keepdim=True)
    return (1 - _STRENGTH) * grey + _STRENGTH * _coloured(drawn.to(images))


def _coloured(drawn: Tensor) -> Tensor:
    """Colours (B,3,H,W) of values (B,1,H,W) from 0 to 1, in between by straight lines."""
    colours = torch.tensor(_COLOURS, dtype=drawn.dtype, device=drawn.device)
    place = drawn[:, 0].clamp(0, 1) * (len(colours) - 1)
    below = place.floor().clamp_max(len(colours) - 2)
    share = (place - below)[..., None]
    found = colours[below.long()] * (1 - share) + colours[below.long() + 1] * share
    return found.permute(0, 3, 1, 2)
