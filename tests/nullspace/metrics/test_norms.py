"""Norms of token noise: the shift, spread at its ends, the mean over images and tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nullspace.errors import NullspaceError
from nullspace.metrics.norms import effective, mean_token_norm, remove_shift, spread


@given(st.integers(1, 9), st.integers(2, 7), st.floats(-1e6, 1e6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_shift_does_not_count_where_it_is_ignored(tokens: int, width: int, shift: float, seed: int) -> None:
    noise = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shifted = noise + shift
    torch.testing.assert_close(effective(shifted, True), effective(noise, True), rtol=1e-6, atol=1e-3)
    assert effective(shifted, False) is shifted
    torch.testing.assert_close(remove_shift(remove_shift(noise)), remove_shift(noise))
    assert 1 / tokens - 1e-9 <= spread(noise) <= 1 + 1e-9


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_spread_at_its_ends(size: float) -> None:
    assert spread(torch.zeros(5, 4)) == 0.0
    one = torch.zeros(5, 4)
    one[2] = size
    assert spread(one) == pytest.approx(1 / 5)
    assert spread(torch.full((5, 4), size)) == pytest.approx(1.0)


def test_mean_token_norm_is_over_images_and_tokens() -> None:
    tokens = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [6.0, 8.0]]])
    assert mean_token_norm(tokens) == pytest.approx((5 + 1 + 0 + 10) / 4)
    with pytest.raises(NullspaceError, match="at least one image"):
        mean_token_norm(torch.empty(0, 4, 3))
