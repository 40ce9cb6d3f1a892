"""Measures of likeness beside scipy and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from nullspace.attribution.compare import centre_shift, pearson, spearman, top_intersection
from nullspace.errors import NullspaceError


def test_equal_to_scipy_also_with_equal_values() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, 40, generator=generator).mul(3).round() for _ in range(2))
    rows = list(zip(one.numpy(), other.numpy(), strict=True))
    expected = [float(stats.spearmanr(*row)[0]) for row in rows]  # type: ignore[arg-type]
    assert np.allclose(spearman(one, other), expected)
    assert np.allclose(pearson(one, other), [np.corrcoef(*row)[0, 1] for row in rows])
    assert torch.allclose(spearman(one, one.double().exp()), torch.ones(5, dtype=torch.float64))
    assert math.isnan(float(pearson(torch.ones(1, 4), torch.randn(1, 4))[0]))


def test_top_entries_are_counted() -> None:
    one, other = torch.tensor([[4.0, 3, 2, 1]]), torch.tensor([[4.0, 1, 3, 2]])
    assert [float(top_intersection(one, other, k)) for k in (1, 2, 3, 4)] == [1, 0.5, 2 / 3, 1]
    assert float(top_intersection(torch.zeros(1, 4), one, 2)) == 1  # of equal entries the first
    drawn = torch.rand(200, 100, generator=torch.Generator().manual_seed(0))
    chance = top_intersection(drawn, drawn.roll(1, 0), 25).mean()
    assert abs(float(chance) - 0.25) < 0.02
    with pytest.raises(NullspaceError, match="expected k from 1 to the 4 entries"):
        top_intersection(one, other, 5)


def test_the_centre_moves_by_pixels() -> None:
    one, other = torch.zeros(1, 12), torch.zeros(1, 12)
    one[0, 0], other[0, 4 + 3] = 2.0, -1.0  # from row 0, column 0 to row 1, column 3 of 3x4
    assert float(centre_shift(one, other, (3, 4), (16, 8))) == pytest.approx(math.hypot(16, 24))
    with pytest.raises(NullspaceError, match="of 2x4 tokens"):
        centre_shift(one, other, (2, 4), (16, 8))
