"""Rank, spectrum and row space against scipy and numpy, on both sides of where the Gram matrix is trusted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nullspace.kernel import row_space as module
from nullspace.kernel.row_space import WELL_CONDITIONED, row_space

EPS = torch.finfo(torch.float64).eps
SHAPES = {"wide": (24, 60), "square": (40, 40), "tall": (60, 24)}


def spectrum(shape: tuple[int, int], sigma: list[float] | np.ndarray, seed: int = 0) -> torch.Tensor:
    """A matrix with exactly these singular values, up to rounding."""
    drawn = np.random.default_rng(seed)
    left, right = (np.linalg.qr(drawn.standard_normal((side, len(sigma))))[0] for side in shape)
    return torch.from_numpy((left * np.asarray(sigma)) @ right.T)


def check_against_scipy(matrix: torch.Tensor, rank: int) -> None:
    found = row_space(matrix, max(matrix.shape) * EPS)
    assert found.rank == rank and found.basis.shape == (matrix.shape[1], rank)
    torch.testing.assert_close(found.basis.T @ found.basis, torch.eye(rank, dtype=torch.float64), atol=1e-13, rtol=0)
    reference = torch.from_numpy(scipy.linalg.svdvals(matrix.numpy()))
    assert float((found.singular_values - reference).abs().max()) <= 1e-12 * float(reference[0])
    null = torch.from_numpy(scipy.linalg.null_space(matrix.numpy()))
    mine = torch.eye(matrix.shape[1], dtype=torch.float64) - found.basis @ found.basis.T
    condition = float(reference[0] / reference[rank - 1])
    assert float((mine - null @ null.T).abs().max()) <= 100 * EPS * condition + 1e-14


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("condition", [1.0, 5.0, 20.0, 400.0, 0.9e3, 1.1e3, 1e6, 1e11])
def test_any_condition_number(shape: tuple[int, int], condition: float) -> None:
    check_against_scipy(spectrum(shape, np.geomspace(1, 1 / condition, min(shape))), min(shape))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("rank", [1, 7, 23])
def test_any_rank(shape: tuple[int, int], rank: int) -> None:
    matrix = spectrum(shape, np.geomspace(1, 0.01, rank))
    check_against_scipy(matrix, rank)
    gap = row_space(matrix, max(shape) * EPS).gap
    assert gap is not None and gap > 1e10


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 20),
    n=st.integers(1, 20),
    digits=st.floats(0, 9),
    scale=st.sampled_from([1e-250, 1e-160, 1.0, 1e160, 1e250]),
    seed=st.integers(0, 10_000),
)
def test_scale_and_transposition_do_not_matter(m: int, n: int, digits: float, scale: float, seed: int) -> None:
    matrix = spectrum((m, n), np.geomspace(1, 10**-digits, min(m, n)), seed)
    plain, scaled, turned = (row_space(each, 1e-12) for each in (matrix, scale * matrix, matrix.T.contiguous()))
    assert plain.rank == scaled.rank == turned.rank == min(m, n)
    torch.testing.assert_close(scaled.singular_values / scale, plain.singular_values, atol=1e-12, rtol=1e-6)
    torch.testing.assert_close(turned.singular_values, plain.singular_values, atol=1e-12, rtol=1e-6)
    torch.testing.assert_close(scaled.basis @ scaled.basis.T, plain.basis @ plain.basis.T, atol=1e-6, rtol=0)


@pytest.mark.parametrize("condition", [3.0, 30.0, 900.0])
def test_the_fast_way_agrees_with_the_safe_one(condition: float) -> None:
    matrix = spectrum((30, 80), np.geomspace(1, 1 / condition, 30))
    fast, safe = module._by_gram(matrix, 1e-14, 0.0), module._by_qr(matrix, 1e-14, 0.0)
    assert fast is not None and fast.rank == safe.rank == 30
    error = (fast.singular_values / safe.singular_values - 1).abs().max()
    assert float(error) <= 10 * EPS * condition**2
    torch.testing.assert_close(fast.basis @ fast.basis.T, safe.basis @ safe.basis.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("matrix", "rtol"),
    [
        (spectrum((8, 20), np.geomspace(1, 0.5 / WELL_CONDITIONED, 8)), 1e-14),
        (spectrum((8, 20), [1.0] * 7), 1e-14),
        (torch.zeros(3, 5, dtype=torch.float64), 1e-14),
        (spectrum((8, 20), np.geomspace(1, 0.1, 8)), 0.06),
        (torch.full((2, 3), 1e301, dtype=torch.float64), 1e-14),
    ],
    ids=["ill-conditioned", "singular", "zero", "tolerance-near-sigma-min", "near-overflow"],
)
def test_the_gram_matrix_is_not_trusted_where_it_could_mislead(matrix: torch.Tensor, rtol: float) -> None:
    assert module._by_gram(matrix, rtol, 0.0) is None


def test_the_tolerance_counts_what_was_taken_out_of_the_matrix() -> None:
    matrix = spectrum((4, 9), [1.0, 1e-2, 1e-4, 1e-6])
    assert row_space(matrix, 1e-5).rank == 3
    assert row_space(matrix, 1e-5, at_least=1e4).rank == 1
    assert row_space(matrix, 1e-5, at_least=1e4).tolerance == pytest.approx(0.1)


def test_no_rows_and_no_rank() -> None:
    empty = row_space(torch.empty(0, 6, dtype=torch.float64), 1e-12)
    assert (empty.rank, empty.gap, tuple(empty.basis.shape), len(empty.singular_values)) == (0, None, (6, 0), 0)
    zero = row_space(torch.zeros(3, 5, dtype=torch.float64), 1e-12)
    assert (zero.rank, zero.gap, tuple(zero.basis.shape)) == (0, None, (5, 0))
    step = row_space(torch.diag(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)), 1e-12)
    assert step.gap == math.inf
