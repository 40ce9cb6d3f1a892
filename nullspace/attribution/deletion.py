"""Does a map mean anything? The class's probability as what the map calls important is taken out, cell by cell.

Deletion of Petsiuk et al. (BMVC 2018), over patches. Cut along the patches of the model it cannot see noise of the
kernel; cut across them it takes such noise out of the kernel, and is another measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nullspace.attribution.gradients import baseline
from nullspace.errors import NullspaceError
from nullspace.model.shapes import Float
from nullspace.model.vit import SplitViT

SHARES = 8  # of the cells, equal ones: how often the model is asked


@torch.no_grad()
def deletion(
    model: SplitViT,
    images: Float[Tensor, "B 3 H W"],
    classes: Tensor,
    maps: Float[Tensor, "B N"],
    *,
    across: bool = False,
    shares: int = SHARES,
) -> Float[Tensor, "B shares"]:
    """Probability (B,shares+1) of `classes` (B,) with 0, 1/shares, … and all cells replaced by the mean colour.

    The cells are patches in the order of `maps`, the largest first; `across` shifts them by half a patch down and to
    the right, each with the mean of the map where it lies. A lower mean over the shares means a better map. Raises
    NullspaceError.
    """
    if shares < 1 or maps.shape != (len(images), model.num_patches):
        raise NullspaceError(
            f"expected maps {(len(images), model.num_patches)} and shares >= 1, got {tuple(maps.shape)} and {shares}"
        )
    values = maps.unflatten(1, model.grid)
    if across:
        values = _between(values)
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    grey = baseline(model, images)
    found = []
    for share in range(shares + 1):
        count = round(share / shares * order.shape[1])
        removed = (order < count).view(-1, 1, *values.shape[1:]).to(images)
        cut = _drawn(removed, model, across=across)
        pictures = images * (1 - cut) + grey * cut
        probabilities = model(pictures, check_range=False).softmax(dim=1)
        found.append(probabilities.gather(1, classes.to(probabilities.device)[:, None])[:, 0])
    return torch.stack(found, dim=1)


def area(curve: Float[Tensor, "B shares"]) -> Float[Tensor, " B"]:
    """Area (B,) under a curve of `deletion`, by trapezia, the shares running from 0 to 1."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def _between(values: Tensor) -> Tensor:
    """Cells (B,gh+1,gw+1) half a patch up and to the left of (B,gh,gw), each the mean of the patches it touches."""
    padded = functional.pad(values[:, None], (1, 1, 1, 1))
    counts = functional.pad(torch.ones_like(values[:1, None]), (1, 1, 1, 1))
    return (functional.avg_pool2d(padded, 2, stride=1) / functional.avg_pool2d(counts, 2, stride=1))[:, 0]


def _drawn(cells: Tensor, model: SplitViT, *, across: bool) -> Tensor:
    """Cells (B,1,h,w) as large as the image."""
    height, width = model.patch_size
    large = cells.repeat_interleave(height, dim=2).repeat_interleave(width, dim=3)
    if not across:
        return large
    top, left = height // 2, width // 2
    full = model.preprocessing.input_size
    return large[:, :, top : top + full[0], left : left + full[1]]
