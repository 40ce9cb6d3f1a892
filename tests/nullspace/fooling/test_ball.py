"""Balls around looks: projections are the nearest points, and rounding to 8 bits stays inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.fooling.ball import LEVELS, Ball


def looks(seed: int = 0) -> Tensor:
    drawn = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    drawn[0, :, 0], drawn[1, :, 1] = 0, 1
    return drawn


def far(seed: int = 1) -> Tensor:
    return 400 * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_every_epsilon_of_whole_levels_is_exactly_that_many_levels() -> None:
    for levels in (1, 2, 3, 4, 8, 16, 32, 100):
        ball = Ball.around(torch.full((1, 3, 2, 2), 0.5), epsilon=levels / 255)
        assert float((ball.high - ball.centre).max()) == levels == float((ball.centre - ball.low).max())
    assert float((Ball.around(looks(), epsilon=4.7 / 255).high - 255 * looks()).max()) <= 4.7 + 0.5


def test_a_box_is_clipped_to_and_rounded_within() -> None:
    ball = Ball.around(looks(), epsilon=8 / 255)
    inside = ball.rounded(ball.nearest(ball.centre + far()))
    assert torch.equal(inside, inside.round()) and inside.min() >= 0 and inside.max() <= LEVELS
    assert float((inside - ball.centre).abs().max()) == 8
    everywhere = Ball.around(looks()).nearest(far())
    assert torch.equal(everywhere, far().clamp(0, LEVELS))


def test_the_projection_into_ball_and_range_is_the_nearest_point() -> None:
    ball = Ball.around(looks(), rms=10 / 255)
    wanted = ball.centre + far() / 20
    found = ball.nearest(wanted)
    change = (found - ball.centre).double()
    assert change.square().mean(dim=(1, 2, 3)).sqrt().tolist() == pytest.approx([10, 10], rel=1e-4)
    for picture in range(2):
        centre, goal = (each[picture].double().flatten().numpy() for each in (ball.centre, wanted))
        limits = np.stack([-centre, LEVELS - centre], axis=1)
        reference = minimize(
            lambda z, goal=goal, centre=centre: (np.square(centre + z - goal).sum(), 2 * (centre + z - goal)),
            np.zeros_like(goal), jac=True, bounds=limits, method="SLSQP",
            constraints={"type": "ineq", "fun": lambda z: 100 * z.size - z @ z, "jac": lambda z: -2 * z},
            options={"maxiter": 500, "ftol": 1e-9},
        )  # fmt: skip
        assert np.abs(change[picture].flatten().numpy() - reference.x).max() < 0.05


def test_rounding_never_leaves_the_ball() -> None:
    for seed in range(10):
        ball = Ball.around(looks(seed), rms=1.5 / 255)
        saved = ball.rounded(ball.nearest(ball.centre + far(seed)))
        assert torch.equal(saved, saved.round()) and bool(((saved >= 0) & (saved <= LEVELS)).all())
        assert float((saved - ball.centre).square().mean(dim=(1, 2, 3)).sqrt().max()) <= 1.5 + 1e-5


def test_a_point_inside_stays() -> None:
    ball = Ball.around(looks(), rms=5 / 255)
    assert torch.equal(ball.nearest(ball.centre.clone()), ball.centre)
    near = (ball.centre + 1).clamp(0, LEVELS)
    assert torch.equal(ball.nearest(near), near)


def test_what_allows_no_change_or_both_is_refused() -> None:
    with pytest.raises(NullspaceError, match="not both, got 0.1 and 0.2"):
        Ball.around(looks(), epsilon=0.1, rms=0.2)
    with pytest.raises(NullspaceError, match="epsilon >= 1/255"):
        Ball.around(looks(), epsilon=0.003)
    with pytest.raises(NullspaceError, match="rms > 0, got 0"):
        Ball.around(looks(), rms=0.0)
    with pytest.raises(ImageRangeError):
        Ball.around(2 * looks(), epsilon=0.1)
