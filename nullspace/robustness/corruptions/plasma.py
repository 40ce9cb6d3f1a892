"""Plasma fractals: clouds by midpoint displacement (diamond-square), which repeat at their borders."""

from __future__ import annotations

import numpy as np

from nullspace.metrics.draws import Draws

_FIRST = 100.0  # displacement of the first midpoint, squared below as published


def plasma(shape: tuple[int, int], decay: float, draws: Draws) -> np.ndarray:
    """A cloud (H,W) float64; the larger `decay`, the smoother.

    The corner of a square map whose side is the next power of 2, and which takes all of [0,1].
    """
    side = 1 << (max(shape) - 1).bit_length()
    chance = draws.uniform(side * side)[0].double().numpy() * 2 - 1
    field, step, size = np.zeros((side, side)), side, _FIRST
    while step >= 2:
        count = (side // step) ** 2
        used = side * side // step**2 - 1  # 3 draws for each cell of all steps before: a geometric sum
        _displace(field, step, size**2 * chance[used : used + 3 * count].reshape(3, side // step, side // step))
        step, size = step // 2, size / decay
    field -= field.min()
    return (field / field.max())[: shape[0], : shape[1]]


def _displace(field: np.ndarray, step: int, by: np.ndarray) -> None:
    """Fill the middle of every cell from its corners, then the middles of its edges from corners and middles."""
    half = step // 2
    corners = field[::step, ::step]
    ends = corners + np.roll(corners, -1, axis=0)
    field[half::step, half::step] = (ends + np.roll(ends, -1, axis=1)) / 4 + by[0]
    middles = field[half::step, half::step]
    across = middles + np.roll(middles, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
    field[::step, half::step] = across / 4 + by[1]
    down = middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
    field[half::step, ::step] = down / 4 + by[2]
