"""The largest noise in the pixel box: against closed forms and scipy's linear programming, with its certificates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nullspace.errors import ImageRangeError, NullspaceError
from nullspace.kernel.patch_kernel import PatchKernel, kernel_of
from nullspace.pixels.box import RESIDUAL, furthest, largest_scale
from nullspace.pixels.largest import largest_noise

STD = (0.229, 0.224, 0.225)


def kernel(rows: int = 9, columns: int = 27, *, modulo_shift: bool = False) -> PatchKernel:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    return kernel_of(weight, STD, modulo_shift=modulo_shift)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def patches(count: int, columns: int = 27, seed: int = 0, *, saturated: bool = False) -> torch.Tensor:
    x = torch.rand(count, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (3 * x - 1).clamp(0, 1) if saturated else x


def check_inside(x: torch.Tensor, delta: torch.Tensor, k: PatchKernel) -> None:
    assert float((x + delta).min()) >= -1e-15 and float((x + delta).max()) <= 1 + 1e-15
    assert float((delta @ k.row_space).norm(dim=-1).max()) <= RESIDUAL


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), size=st.floats(1e-3, 1e3))
def test_the_largest_scale_touches_the_box(seed: int, size: float) -> None:
    k, x = kernel(), patches(5, seed=seed)
    direction = k.project(size * drawn(5, 27, seed=seed))
    found = largest_scale(x, direction, k)
    check_inside(x, found.delta, k)
    torch.testing.assert_close(found.delta, found.scale[:, None] * direction, atol=1e-12, rtol=1e-9)
    touched = x + found.delta
    assert bool((torch.minimum(touched, 1 - touched).abs().min(dim=-1).values < 1e-12).all())
    twice = largest_scale(x, 2 * direction, k)
    torch.testing.assert_close(2 * twice.scale, found.scale)


def test_scales_of_special_directions() -> None:
    k = kernel()
    x, z = patches(3), k.project(drawn(3, 27))
    z[1] = 0.0
    x[2] = torch.where(z[2] > 0, 1.0, 0.0)
    found = largest_scale(x.view(1, 3, 27), z.view(1, 3, 27), k)
    assert found.scale.shape == (1, 3) and math.isinf(found.scale[0, 1]) and found.scale[0, 2] == 0
    assert not found.delta[0, 1:].any()
    seen = largest_scale(x[:2], drawn(2, 27, seed=4), k)
    assert float(seen.residual.min()) > 1e-3, "a direction outside the kernel is reported as such"


def by_scipy(x: torch.Tensor, c: torch.Tensor, k: PatchKernel) -> float:
    equal = k.row_space.T.numpy() if k.rank else None
    bounds = np.stack([-x.numpy(), 1 - x.numpy()], axis=1)
    zero = np.zeros(k.rank) if k.rank else None
    solved = scipy.optimize.linprog(-c.numpy(), A_eq=equal, b_eq=zero, bounds=bounds, method="highs")
    assert solved.status == 0
    return -float(solved.fun)


CASES: dict[str, tuple[PatchKernel, torch.Tensor]] = {
    "inside": (kernel(), patches(6)),
    "saturated": (kernel(), patches(6, saturated=True)),
    "black-and-white": (kernel(), patches(6).round()),
    "all-black": (kernel(), torch.zeros(2, 27, dtype=torch.float64)),
    "one-dimension": (kernel(27, modulo_shift=True), patches(6)),
    "trivial": (kernel(27), patches(2)),
    "everything": (kernel_of(torch.zeros(4, 27), STD), patches(4)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_furthest_point_is_that_of_linear_programming(case: str) -> None:
    k, x = CASES[case]
    functional = drawn(len(x), 27, seed=7) * torch.logspace(-3, 3, len(x), dtype=torch.float64)[:, None]
    found = furthest(x, functional, k, tolerance=1e-5)
    best = torch.tensor([by_scipy(a, c, k) for a, c in zip(x, functional, strict=True)], dtype=torch.float64)
    check_inside(x, found.delta, k)
    assert bool(found.converged.all())
    assert bool(((best - found.value).abs() <= 1.1e-5 * found.reach).all())
    assert bool((found.bound >= best - 1e-9 * found.reach).all()), "the bound holds"
    torch.testing.assert_close(found.value, (functional * found.delta).sum(-1))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), iterations=st.sampled_from([1, 7, 40, 300]))
def test_the_bound_holds_however_early_it_stops(seed: int, iterations: int) -> None:
    k, x, c = kernel(), patches(3, seed=seed), drawn(3, 27, seed=seed + 1)
    found = furthest(x, c, k, iterations=iterations)
    check_inside(x, found.delta, k)
    for patch, functional, bound in zip(x, c, found.bound, strict=True):
        assert float(bound) >= by_scipy(patch, functional, k) - 1e-9
    assert bool((found.gap >= -1e-5).all()) and found.iterations <= iterations


def test_a_functional_that_the_kernel_does_not_feel_reaches_nothing() -> None:
    k, x = kernel(), patches(2)
    felt = furthest(x, torch.stack([k.row_space[:, 0], torch.zeros(27, dtype=torch.float64)]), k)
    assert bool(felt.converged.all()) and float(felt.value.abs().max()) < 1e-3 and float(felt.bound.abs().max()) < 1e-3


def test_more_iterations_close_the_gap_and_batches_do_not_matter() -> None:
    k, x, c = kernel(), patches(8, seed=3), drawn(8, 27, seed=5)
    early, late = (furthest(x, c, k, iterations=n) for n in (20, 4000))
    assert not bool(early.converged.all()) and bool(late.converged.all())
    assert float(late.gap.max()) < float(early.gap.max())
    alone = torch.cat([furthest(x[i : i + 1], c[i : i + 1], k).value for i in range(8)])
    torch.testing.assert_close(alone, late.value, atol=2e-4 * float(late.reach.max()), rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_the_largest_noise_grows_and_ends_where_nothing_is_left_to_gain(case: str) -> None:
    k, x = CASES[case]
    # Where one direction is left the best multipliers are at infinity, and proving the last digits takes for ever.
    tolerance = 5e-3 if case == "one-dimension" else 1e-3
    found = largest_noise(x, k, generator=torch.Generator().manual_seed(0), exact_steps=30, tolerance=tolerance)
    check_inside(x, found.delta, k)
    assert bool((found.history.diff(dim=0) >= 0).all()) and torch.equal(found.history[-1], found.rms)
    assert torch.equal(found.history[0], found.start_rms)
    assert bool(found.converged.all()), found.gap
    for patch, delta in zip(x, found.delta, strict=True):
        assert by_scipy(patch, delta, k) <= 1.02 * float(delta.square().sum()) + 1e-9
    if case in ("inside", "saturated"):
        assert float(found.rms.mean()) > max(0.05, 1.5 * float(found.start_rms.mean()))
    if case == "trivial":
        assert not found.delta.any()


def test_shapes_follow_the_patches_and_the_seed_decides() -> None:
    k, x = kernel(), patches(6).view(2, 3, 27).float()
    one, two = (largest_noise(x, k, generator=torch.Generator().manual_seed(5), steps=2) for _ in range(2))
    assert one.delta.shape == (2, 3, 27) and one.rms.shape == one.gap.shape == one.converged.shape == (2, 3)
    assert one.delta.dtype == torch.float64 and torch.equal(one.delta, two.delta)
    assert furthest(x, x, k, iterations=20).gap.shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        (lambda k, x: largest_scale(x, x[:1], k), NullspaceError, r"one shape \(...,27\), got \(2, 27\) and \(1, 27\)"),
        (lambda k, x: furthest(x[:, :9], x[:, :9], k), NullspaceError, r"one shape \(...,27\)"),
        (lambda k, x: furthest(x, x * math.nan, k), NullspaceError, "expected finite numbers as direction"),
        (lambda k, x: furthest(x + 1, x, k), ImageRangeError, r"expected pixels in \[0,1\]"),
        (lambda k, x: furthest(x, x, k, iterations=0), NullspaceError, "expected iterations >= 1 and tolerance > 0"),
        (lambda k, x: furthest(x, x, k, tolerance=0.0), NullspaceError, "got 4000 and 0.0"),
        (
            lambda k, x: largest_noise(x, k, generator=torch.Generator(), steps=0),
            NullspaceError,
            "expected steps >= 1, exact_steps >= 0",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        call(kernel(), patches(2))
