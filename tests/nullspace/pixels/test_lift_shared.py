"""One lift for all images: within the box they have in common, and what clipping takes from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.pixels.lift import lift_shared, map_of
from tests.nullspace.pixels.lifting import MATRICES, STD, draw, reference, saturated

MAPPING = map_of(MATRICES["wide"], STD)
GREY = 0.3 + 0.4 * torch.rand(5, 3, 27, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_shared_noise_is_allowed_in_every_image() -> None:
    noise = MAPPING.tokens(0.1 * draw(3, 27))
    found = lift_shared(noise, GREY, MAPPING)
    changed = GREY + found.lift.delta
    assert found.lift.delta.shape == (3, 27) and found.survived.shape == found.relative.shape == (5, 3)
    assert float(changed.min()) >= 0.0 and float(changed.max()) <= 1.0
    torch.testing.assert_close(found.relative, found.lift.relative.expand(5, 3), atol=1e-9, rtol=0.0)


def test_it_is_scipys_in_the_common_box() -> None:
    noise = 5 * draw(3, 8)
    found = lift_shared(noise, GREY, MAPPING)
    low, high = (-GREY).amax(0), (1 - GREY).amin(0)
    for index in range(3):
        least = reference(MAPPING.matrix, noise[index], low[index], high[index])
        assert abs(float(found.lift.residual[index]) - least) <= 2e-7 * float(noise[index].norm())


def test_black_and_white_images_leave_no_room() -> None:
    images = torch.stack([torch.zeros(3, 27), torch.ones(3, 27)])
    found = lift_shared(draw(3, 8), images, MAPPING)
    assert bool((found.lift.delta == 0).all()) and bool((found.survived == 0).all())
    assert bool(found.lift.converged.all())


def test_a_bound_is_kept_and_the_loss_by_clipping_is_reported() -> None:
    patches = saturated(12, 27).reshape(4, 3, 27)
    noise = MAPPING.tokens(0.05 * draw(3, 27))
    found = lift_shared(noise, patches, MAPPING, bound=0.5)
    assert float(found.lift.delta.abs().max()) <= 0.5 and float(found.lift.relative.max()) < 1e-7
    clipped = MAPPING.tokens((patches + found.lift.delta).clamp(0, 1) - patches)
    share = (clipped * noise).sum(-1) / noise.square().sum(-1)
    torch.testing.assert_close(found.survived, share)
    assert 0.3 < float(found.survived.mean()) < 1.0 and float(found.relative.min()) > 0.0


@pytest.mark.parametrize(
    ("noise", "patches", "bound", "message"),
    [
        (draw(3, 8), torch.rand(3, 27), None, "at least one image"),
        (draw(3, 8), torch.rand(0, 3, 27), None, "at least one image"),
        (draw(3, 8), torch.rand(2, 3, 27), 0.0, r"bound in \(0,1\]"),
        (draw(3, 8), torch.rand(2, 3, 27), 1.5, "got 1.5"),
    ],
    ids=["one-image", "no-image", "no-room", "more-than-all"],
)
def test_bad_input_is_refused(noise: Tensor, patches: Tensor, bound: float | None, message: str) -> None:
    with pytest.raises(NullspaceError, match=message):
        lift_shared(noise, patches, MAPPING, bound=bound)
