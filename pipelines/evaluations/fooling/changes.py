"""Controls of a fooled picture: changes of equal size that mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nullspace.metrics.controls import in_random_order
from nullspace.metrics.keyed import generator
from nullspace.model.images import from_uint8, round_to_uint8


def controls(base: Tensor, fooled: Tensor, ids: Sequence[str], seed: int) -> tuple[Tensor, Tensor]:
    """`base` with the change to `fooled`, (n,3,H,W), in random order, and with random signs of its root mean square.

    Both in [0,1] and of 8 bits, as the fooled pictures are.
    """
    change = fooled - base
    size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    shuffled = [
        in_random_order(each, generator(seed, "fooling_permuted", id_)) for each, id_ in zip(change, ids, strict=True)
    ]
    signs = torch.stack([_signs(base.shape[1:], generator(seed, "fooling_signs", id_)) for id_ in ids]).to(base)
    return _saved(base + torch.stack(shuffled)), _saved(base + signs * size)


def _signs(shape: torch.Size, source: torch.Generator) -> Tensor:
    return 2 * torch.randint(2, shape, generator=source) - 1


def _saved(images: Tensor) -> Tensor:
    return from_uint8(round_to_uint8(images.clamp(0, 1)))
