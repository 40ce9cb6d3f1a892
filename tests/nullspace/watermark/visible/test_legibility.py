"""Contrast of texture: 1 on plain ground, 0 where there is no mark, less at half size for what is fine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.watermark.visible.legibility import texture_contrast


def ground(texture: float) -> Tensor:
    noise = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    return (0.5 + texture * noise).expand(-1, 3, -1, -1)


def letter() -> Tensor:
    alpha = torch.zeros(64, 64)
    alpha[16:48, 24:40] = 1.0
    return alpha


def board(side: int) -> Tensor:
    at = torch.arange(64) // side
    return (at[:, None] + at) % 2 - 0.5


def test_a_mark_on_plain_ground_has_contrast_near_one() -> None:
    marked = ground(0) + 0.5 * letter() * board(1)
    assert texture_contrast(marked, letter()).min() > 0.9  # but for the windows that reach into it


@pytest.mark.parametrize("texture", [0.1, 0.8])
def test_without_a_mark_contrast_is_near_nothing(texture: float) -> None:
    assert texture_contrast(ground(texture), letter()).abs().max() < 0.05


def test_contrast_falls_with_the_texture_of_the_ground() -> None:
    found = [float(texture_contrast(ground(t) + 0.2 * letter() * board(1), letter()).mean()) for t in (0.05, 0.2, 0.8)]
    assert found[0] > found[1] > found[2] > 0


def test_at_half_size_a_fine_board_is_gone_and_a_coarse_one_stays() -> None:
    fine, coarse = (ground(0.1) + 0.4 * letter() * board(side) for side in (1, 2))
    assert texture_contrast(fine, letter(), shrink=2).abs().max() < 0.1
    assert texture_contrast(coarse, letter(), shrink=2).min() > 0.6


def test_a_mark_with_nothing_beside_it_has_no_contrast() -> None:
    assert torch.equal(texture_contrast(ground(0.5), torch.ones(64, 64)), torch.zeros(3, dtype=torch.float64))


def test_other_sizes_are_refused() -> None:
    with pytest.raises(NullspaceError, match="of their size"):
        texture_contrast(ground(0), torch.ones(32, 32))
