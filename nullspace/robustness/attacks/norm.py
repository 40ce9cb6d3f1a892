"""How large a change of an image is, the steepest way to grow along, and the nearest change that is small enough.

A change is (n,3,H,W), in pixel units of [0,1].
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.draws import Draws

NormName: TypeAlias = Literal["linf", "l2"]
NORMS: tuple[NormName, ...] = ("linf", "l2")
_ROUNDING = 2.0**-24  # of a pixel in [0,1] in float32: image + change differs by as much from what was meant
_TINY = 1e-12


def checked_norm(name: str) -> NormName:
    """The norm of that name; raises NullspaceError for one that is not known."""
    for known in NORMS:
        if name == known:
            return known
    raise NullspaceError(f"expected the norm {' or '.join(NORMS)}, got {name!r}")


def sizes(change: Tensor, norm: NormName) -> Tensor:
    """The norm (n,) of changes, in float64."""
    flat = change.detach().double().flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else torch.linalg.vector_norm(flat, dim=1)


def shrunk(change: Tensor, norm: NormName, radius: Tensor) -> Tensor:
    """The nearest changes of norm `radius` (n,) or less."""
    most = column(radius.to(change))
    if norm == "linf":
        return torch.minimum(torch.maximum(change, -most), most)
    length = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return change * (most / length.clamp_min(_TINY)).clamp_max(1)


def within(images: Tensor, change: Tensor, norm: NormName, radius: Tensor) -> Tensor:
    """Images (n,3,H,W) in [0,1] with changes of norm `radius` (n,) or less: exactly, after rounding to float32.

    First the norm, then the range: clipping to it only makes a change smaller, as images lie inside.
    """
    room = _ROUNDING * (1.0 if norm == "linf" else change[0].numel() ** 0.5)
    return (images + shrunk(change, norm, (radius - room).clamp_min(0))).clamp(0, 1)


def steepest(gradient: Tensor, norm: NormName) -> Tensor:
    """The change of norm 1 along which a linear function with that gradient grows most; zero where the gradient is."""
    return gradient.sign() if norm == "linf" else unit(gradient)


def unit(change: Tensor) -> Tensor:
    """Changes of Euclidean length 1, zero where they are zero."""
    length = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return torch.where(length > 0, change / length.clamp_min(torch.finfo(change.dtype).tiny), 0)


def random_change(draws: Draws, shape: torch.Size, norm: NormName) -> Tensor:
    """A random change (n,*shape) for each image, of norm 1: uniform signs and sizes, or a uniform direction."""
    if norm == "linf":
        drawn = 2 * draws.uniform(*shape) - 1
        return drawn / drawn.abs().amax(dim=(1, 2, 3), keepdim=True)
    return unit(draws.normal(*shape))


def column(values: Tensor) -> Tensor:
    """Values (n,) as (n,1,1,1)."""
    return values[:, None, None, None]
