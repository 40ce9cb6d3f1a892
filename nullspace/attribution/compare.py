"""How alike two maps are, image by image; on tokens, because pixels of a map that is drawn large are copies."""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.model.shapes import Float


def pearson(maps: Float[Tensor, "B N"], others: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Correlation (B,) in float64; NaN where a map is constant."""
    return correlation(*(each.double() for each in _checked(maps, others)))


def correlation(maps: Float[Tensor, "B N"], others: Float[Tensor, "B N"], *, least: float = 0.0) -> Float[Tensor, " B"]:
    """The same in the type of the maps; with a `least` product of norms it is 0, with a gradient, for constant ones."""
    one, other = (each - each.mean(dim=1, keepdim=True) for each in (maps, others))
    return (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1)).clamp_min(least)


def spearman(maps: Float[Tensor, "B N"], others: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Correlation (B,) of ranks, equal values sharing their mean rank; NaN where a map is constant."""
    ranks = [torch.from_numpy(stats.rankdata(each.detach().cpu().numpy(), axis=1)) for each in _checked(maps, others)]
    return pearson(*ranks)


def top_intersection(maps: Float[Tensor, "B N"], others: Float[Tensor, "B N"], k: int) -> Float[Tensor, " B"]:
    """Share (B,) of the k largest entries that are among the k largest of the other map; by chance k/N.

    Of equal entries the first count as larger.
    """
    one, other = _checked(maps, others)
    count = one.shape[1]
    if not 1 <= k <= count:
        raise NullspaceError(f"expected k from 1 to the {count} entries of a map, got {k}")
    chosen = [torch.zeros(each.shape, dtype=torch.bool, device=each.device) for each in (one, other)]
    for mask, each in zip(chosen, (one, other), strict=True):
        mask.scatter_(1, each.sort(dim=1, descending=True, stable=True).indices[:, :k], True)
    return (chosen[0] & chosen[1]).sum(dim=1).double() / k


def centre_shift(
    maps: Float[Tensor, "B N"], others: Float[Tensor, "B N"], grid: tuple[int, int], patch_size: tuple[int, int]
) -> Float[Tensor, " B"]:
    """Distance (B,) in pixels between the centres of mass of the absolute maps; NaN where a map is 0."""
    one, other = _checked(maps, others)
    if one.shape[1] != grid[0] * grid[1]:
        raise NullspaceError(f"expected maps of {grid[0]}x{grid[1]} tokens, got {one.shape[1]}")
    return (_centre(one, grid, patch_size) - _centre(other, grid, patch_size)).norm(dim=1)


def _centre(maps: Tensor, grid: tuple[int, int], patch_size: tuple[int, int]) -> Tensor:
    rows, columns = (torch.arange(size, dtype=torch.float64, device=maps.device) for size in grid)
    mass = maps.double().abs()
    places = torch.cartesian_prod(rows * patch_size[0], columns * patch_size[1])
    return mass @ places / mass.sum(dim=1, keepdim=True)


def _checked(maps: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    if maps.shape != others.shape or maps.ndim != 2:
        raise NullspaceError(
            f"expected two sets of maps (B,N) of one shape, got {tuple(maps.shape)} and {tuple(others.shape)}"
        )
    return maps, others
