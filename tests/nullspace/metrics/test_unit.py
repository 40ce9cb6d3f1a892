"""The unit of noise: relative norms, the shift left out where it is ignored, tokens held to a norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.norms import spread, token_norms
from nullspace.metrics.unit import Unit


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_shift_counts_only_where_the_model_sees_it(noise: Tensor) -> None:
    ignored, seen = Unit(2.0, shift_invariant=True), Unit(2.0, shift_invariant=False)
    shifted = noise + torch.arange(5)[:, None] * 10
    assert ignored.relative_norm(shifted) == pytest.approx(ignored.relative_norm(noise))
    assert ignored.spread(shifted) == pytest.approx(ignored.spread(noise))
    assert seen.relative_norm(shifted) == pytest.approx(float(shifted.norm(dim=-1).mean()) / 2)
    assert seen.spread(shifted) == spread(shifted)
    assert ignored.relative_norm(torch.full((5, 8), 3.0)) == 0.0


@pytest.mark.parametrize("shift_invariant", [True, False])
def test_every_token_is_held(noise: Tensor, shift_invariant: bool) -> None:
    unit = Unit(2.0, shift_invariant)
    held = unit.hold(noise, 0.25)
    torch.testing.assert_close(token_norms(held), torch.full((5,), 0.5, dtype=torch.float64))
    assert unit.relative_norm(held) == pytest.approx(0.25) and unit.spread(held) == pytest.approx(1)
    like = unit.hold_like(torch.ones_like(noise) * torch.arange(8), noise)
    torch.testing.assert_close(token_norms(like), token_norms(unit.effective(noise)))


def test_a_unit_is_that_of_tokens_or_known() -> None:
    tokens = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert Unit.of(tokens, shift_invariant=True) == Unit(3.0, True)
    assert Unit.of(tokens, shift_invariant=False, token_norm=7.0) == Unit(7.0, False)
    with pytest.raises(NullspaceError, match="positive finite mean token norm"):
        Unit.of(torch.zeros(1, 2, 2), shift_invariant=True)
