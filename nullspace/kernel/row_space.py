"""Rank, singular values and row space of a matrix in float64: the numerical part of deciding a kernel.

A QR decomposition first leaves a small square factor of which the singular values are taken: backward stable, and the
large basis of the kernel is never formed. A matrix that is provably well conditioned goes by its Gram matrix, which is
several times faster; see `WELL_CONDITIONED` for what that costs in digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from scipy.linalg.blas import get_blas_funcs
from torch import Tensor

WELL_CONDITIONED = 1e3
"""Condition number up to which the Gram matrix is trusted.

Its eigenvalues are off by some eps·sigma_max², so sigma_min by a share of about eps·condition²/2, here 1e-10: far from
what could alter the rank. Above it, and where a tolerance is asked for that is near sigma_min, QR and SVD decide.
"""
_ONE_PASS = 10.0  # condition up to which one Cholesky-QR is orthonormal to 1e-14; a second pass corrects the rest


@dataclass(frozen=True, eq=False)
class RowSpace:
    """`rank` counts the `singular_values` (descending) above `tolerance`; `basis` (n,rank) has orthonormal columns."""

    singular_values: Tensor
    rank: int
    tolerance: float
    basis: Tensor

    @property
    def gap(self) -> float | None:
        """sigma_rank over the next one; None when all or none are counted, infinite when the next is 0."""
        if self.rank in (0, len(self.singular_values)):
            return None
        following = float(self.singular_values[self.rank])
        return float(self.singular_values[self.rank - 1]) / following if following else math.inf


def row_space(matrix: Tensor, rtol: float, *, at_least: float = 0.0) -> RowSpace:
    """Row space of a finite float64 CPU matrix (m,n); the tolerance is rtol·max(sigma_max, at_least)."""
    if not matrix.shape[0]:
        return RowSpace(matrix.new_empty(0), 0, rtol * at_least, matrix.new_empty(matrix.shape[1], 0))
    return _by_gram(matrix, rtol, at_least) or _by_qr(matrix, rtol, at_least)


def _by_gram(matrix: Tensor, rtol: float, at_least: float) -> RowSpace | None:
    """Row space of a well-conditioned matrix, of rank min(m,n) for certain; None when it is not one."""
    largest = float(matrix.abs().max())
    if not 1e-300 < largest < 1e300:
        return None
    m, n = matrix.shape
    columns = (matrix / largest).numpy().T  # (n,m) in Fortran's order; squares neither overflow nor vanish
    gram = _gram(columns, transposed=m <= n)
    sigma_squared = scipy.linalg.eigvalsh(gram, lower=False, check_finite=False)
    low, high = float(sigma_squared[0]), float(sigma_squared[-1])
    tolerance = rtol * max(largest * math.sqrt(high), at_least)
    if low * WELL_CONDITIONED**2 <= high or 2 * tolerance >= largest * math.sqrt(low):
        return None
    if m < n:
        basis = torch.from_numpy(_orthonormal(columns, gram, passes=1 if low * _ONE_PASS**2 > high else 2))
    else:
        basis = torch.eye(n, dtype=torch.float64)
    sigma = torch.from_numpy(largest * np.sqrt(sigma_squared[::-1]))
    return RowSpace(sigma, min(m, n), tolerance, basis)


def _gram(columns: np.ndarray, *, transposed: bool = True) -> np.ndarray:
    """Upper triangle of columnsᵀ·columns, or of columns·columnsᵀ: half the work of a product."""
    (syrk,) = get_blas_funcs(("syrk",), (columns,))
    return syrk(1.0, columns, trans=int(transposed))


def _orthonormal(columns: np.ndarray, gram: np.ndarray, *, passes: int) -> np.ndarray:
    """Orthonormal basis of the span of well-conditioned columns (n,m): Cholesky-QR; a second pass corrects the first.

    Source: Yamamoto et al. 2015, "Roundoff error analysis of the CholeskyQR2 algorithm".
    """
    (trsm,) = get_blas_funcs(("trsm",), (columns,))
    for step in range(passes):
        factor = scipy.linalg.cholesky(gram if step == 0 else _gram(columns), lower=False, check_finite=False)
        columns = trsm(1.0, factor, columns, side=1)
    return columns


def _by_qr(matrix: Tensor, rtol: float, at_least: float) -> RowSpace:
    """Row space of any matrix: QR, then the singular values of its small factor, which are those of the matrix."""
    m, n = matrix.shape
    if m > n:  # A = QR has the rows of R
        return _by_qr(torch.linalg.qr(matrix, mode="r").R, rtol, at_least)
    orthonormal, factor = torch.linalg.qr(matrix.T, mode="reduced")
    sigma = torch.linalg.svdvals(factor)
    tolerance = rtol * max(float(sigma[0]), at_least)
    rank = int((sigma > tolerance).sum())
    if rank == n:
        basis = torch.eye(n, dtype=torch.float64)
    elif rank == m:
        basis = orthonormal
    else:
        basis = orthonormal @ torch.linalg.svd(factor).U[:, :rank]
    return RowSpace(sigma, rank, tolerance, basis)
