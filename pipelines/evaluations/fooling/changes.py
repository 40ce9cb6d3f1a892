"""Controls of a fooled picture: random changes of equal size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nullspace.metrics.draws import Draws
from nullspace.model.images import from_uint8, round_to_uint8


def controls(base: Tensor, fooled: Tensor, ids: Sequence[str], seed: int) -> tuple[Tensor, Tensor]:
    """`base` with the change to `fooled`, (n,3,H,W), in random order, and with random signs of its root mean square.

    Both in [0,1] and of 8 bits, as the fooled pictures are.
    """
    change = fooled - base
    size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    shuffled = Draws(seed, "fooling_permuted", ids).shuffled(change)
    signs = Draws(seed, "fooling_signs", ids, base.device).signs(*base.shape[1:])
    return _saved(base + shuffled), _saved(base + signs * size)


def _saved(images: Tensor) -> Tensor:
    return from_uint8(round_to_uint8(images.clamp(0, 1)))
