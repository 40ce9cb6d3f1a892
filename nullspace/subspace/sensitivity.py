"""The approximate nullspace as a subspace: token noise without the directions a model is most sensitive to.

`sensitivity_spectrum` finds those: the top of the mean Gauss-Newton operator G = mean_x JᵀJ, J = d output / d noise
(N,D), without forming J or G. Randomised subspace iteration (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.3),
started from rows of J instead of random vectors: those already span nearly the wanted space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.norms import effective
from nullspace.metrics.outcomes import mean_interval
from nullspace.model.encoder import Encoder
from nullspace.model.shapes import Float
from nullspace.subspace.jacobian import JacobianRows, Linearised, Output
from nullspace.subspace.spectrum import ComplementSample, EffectiveDimension, SensitivitySpectrum

__all__ = [
    "CapturedElsewhere",
    "ComplementSample",
    "EffectiveDimension",
    "SensitivitySpectrum",
    "captured_elsewhere",
    "sensitivity_spectrum",
]

KEPT_ROWS = 512  # directions that rows of J are compressed to, or 4(k+oversampling); at most twice as many are held
_COLUMNS = 1 << 15  # of N·D multiplied in float64 at a time


def sensitivity_spectrum(
    encoder: Encoder,
    states: Float[Tensor, "n S D"],
    *,
    shift_invariant: bool,
    k: int = 64,
    output: Output = "probabilities",
    cotangents: int = 8,
    iterations: int = 1,
    oversampling: int = 8,
    micro_batch: int = 8,
    seed: int = 0,
) -> SensitivitySpectrum:
    """Top `k` eigenpairs of G over the images of `states` (n,S,D), its trace, and its sums over tokens and channels.

    Costs n*cotangents backward passes, and per iteration n*(k+oversampling) forward-mode and backward passes more.
    With iterations=0 the eigenpairs are those of the sampled G, whose error the draws cause: none at all when
    `cotangents` reaches the number of outputs, else see `trace_stderr`; residuals are then not measured.
    `shift_invariant`: as `shift_test` measured; the shift part is then left out, as rounding would be all it holds.
    """
    size = encoder.noise_shape[0] * encoder.noise_shape[1]
    if not (1 <= k <= size and oversampling >= 0 and iterations >= 0):
        raise NullspaceError(
            f"expected 1 <= k <= N·D = {size}, oversampling >= 0 and iterations >= 0, got {k}, {oversampling} and "
            f"{iterations}"
        )
    linear = Linearised(encoder, states, output=output, micro_batch=micro_batch)
    width = min(k + oversampling, size)
    gathered = _Gathered(encoder.noise_shape, max(KEPT_ROWS, 4 * width), shift_invariant)
    for found in linear.rows(cotangents, torch.Generator().manual_seed(seed)):
        gathered.add(found)
    if gathered.drawn and gathered.n * cotangents < k:
        raise NullspaceError(
            f"expected at least k = {k} sampled rows, got {gathered.n} images * {cotangents} cotangents; "
            "give more images"
        )
    values, vectors, residuals = _iterated(linear, gathered, width, iterations)
    kept = min(k, len(values))
    return SensitivitySpectrum(
        eigenvalues=values[:kept].cpu(),
        eigenvectors=vectors[:kept].unflatten(1, encoder.noise_shape).cpu(),
        residuals=residuals[:kept].cpu(),
        channels=(gathered.channels / gathered.n).cpu(),
        tokens=(gathered.tokens / gathered.n).cpu(),
        trace=gathered.energy / gathered.n,
        trace_stderr=gathered.variance**0.5 / gathered.n,
        n=gathered.n,
        output=output,
        injection=encoder.injection,
        shift_invariant=shift_invariant,
        cotangents=cotangents,
        iterations=iterations,
        seed=seed,
    )


@dataclass(frozen=True)
class CapturedElsewhere:
    """Share of tr G of n OTHER images that the top k directions hold, with its 95 % interval (None for one image)."""

    share: float
    interval: tuple[float, float] | None
    k: int
    n: int


def captured_elsewhere(
    spectrum: SensitivitySpectrum,
    encoder: Encoder,
    states: Float[Tensor, "n S D"],
    *,
    k: int | None = None,
    cotangents: int = 8,
    micro_batch: int = 8,
    seed: int = 0,
) -> CapturedElsewhere:
    """How much of the sensitivity of images the spectrum was not computed from lies in its top `k` directions.

    Far below `captured`, the images were too few: their directions are their own. Interval of a ratio of means over
    images (delta method).
    """
    if encoder.injection != spectrum.injection or tuple(spectrum.eigenvectors.shape[1:]) != encoder.noise_shape:
        raise NullspaceError(
            f"expected an encoder at {spectrum.injection!r} with noise {tuple(spectrum.eigenvectors.shape[1:])}, got "
            f"{encoder.injection!r} with {encoder.noise_shape}; use the one the spectrum was computed with"
        )
    linear = Linearised(encoder, states, output=spectrum.output, micro_batch=micro_batch)  # pyright: ignore[reportArgumentType]
    top = spectrum.eigenvectors[:k].flatten(1).to(encoder.device)
    inside, whole = [], []
    for found in linear.rows(cotangents, torch.Generator().manual_seed(seed)):
        inside.append((found.rows.flatten(2).to(top) @ top.T).square().sum((1, 2)).cpu().double())
        whole.append(found.energy()[0])
    part, total = torch.cat(inside), torch.cat(whole)
    share = float(part.sum() / total.sum()) if float(total.sum()) > 0 else 0.0
    interval = None
    if len(part) > 1 and float(total.sum()) > 0:
        low, high = mean_interval((part - share * total) / total.mean())
        interval = (max(0.0, share + low), min(1.0, share + high))
    return CapturedElsewhere(share, interval, len(top), len(part))


class _Gathered:
    """What one pass over the images leaves: rows whose outer products sum to n·G, its partial sums, and its trace."""

    def __init__(self, shape: tuple[int, int], kept: int, shift_invariant: bool) -> None:
        self.shape, self.kept, self.shift_invariant = shape, kept, shift_invariant
        self._pieces: list[Tensor] = []  # joined when needed: joining at every batch would copy them all each time
        self.tokens: Any = 0.0
        self.channels: Any = 0.0
        self.energy, self.variance, self.n, self.drawn = 0.0, 0.0, 0, False

    def add(self, found: JacobianRows) -> None:
        rows = effective(found.rows, self.shift_invariant)
        energy, variance = JacobianRows(rows, found.exact).energy()
        self.energy += float(energy.sum())
        self.variance += float(variance.sum())
        self.n += len(rows)
        self.drawn |= found.exact < rows.shape[1]
        rows = rows.flatten(0, 1)
        precise = _precise(rows)
        self.tokens = self.tokens + torch.einsum("rtd,rsd->ts", precise, precise)
        self.channels = self.channels + torch.einsum("rtd,rte->de", precise, precise)
        self._pieces.append(rows.flatten(1))
        if sum(map(len, self._pieces)) > 2 * self.kept:
            values, vectors = top_of_rows(self.rows, self.kept)
            self._pieces = [vectors * values.sqrt().to(vectors).unsqueeze(1)]

    @property
    def rows(self) -> Tensor:
        """Rows (r,N·D) whose outer products sum to n·G, but for what compressing them left out."""
        self._pieces = [torch.cat(self._pieces)]
        return self._pieces[0]


def top_of_rows(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues (≤k,) of rowsᵀ·rows for rows (r,M), falling, and orthonormal eigenvectors (≤k,M).

    By the r×r Gram matrix in float64; eigenvalues that are rounding, of the rows or of the matrix, are left out.
    """
    gram = torch.zeros(len(rows), len(rows), dtype=_precise(rows[:0]).dtype, device=rows.device)
    for part in rows.split(_COLUMNS, dim=1):
        gram += _precise(part) @ _precise(part).T
    values, left = torch.linalg.eigh(gram)
    values, left = values.flip(0)[:k], left.flip(1)[:, :k]
    rounding = max(torch.finfo(rows.dtype).eps ** 2, torch.finfo(values.dtype).eps)
    kept = values > max(len(rows), 16) * rounding * values[:1]
    values, left = values[kept], left[:, kept]
    return values, _orthonormal((left / values.sqrt()).T.to(rows) @ rows)


def _iterated(linear: Linearised, gathered: _Gathered, width: int, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues, eigenvectors (l,N·D) and residuals after `iterations` applications of the exact G."""
    values, basis = top_of_rows(gathered.rows, width)
    if len(values) == 0:
        raise NullspaceError(
            f"the model's {linear.output} do not move with noise at {linear.encoder.injection!r} on these "
            f"{gathered.n} images: the derivative is 0; use images of which the model is less certain, or logits"
        )
    for step in range(iterations):
        pushed = linear.gauss_newton(basis.unflatten(1, gathered.shape))
        pushed = effective(pushed, gathered.shift_invariant).flatten(1)
        if step == iterations - 1:
            return _rayleigh_ritz(basis, pushed)
        basis = _orthonormal(pushed)
    return values / gathered.n, basis, torch.full_like(values, torch.nan)


def _rayleigh_ritz(basis: Tensor, pushed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenpairs of G within the span of orthonormal `basis` (l,M), and their residuals; `pushed` is G times it."""
    small = _precise(basis) @ _precise(pushed).T
    values, turn = torch.linalg.eigh((small + small.T) / 2)
    values, turn = values.flip(0).clamp_min(0), turn.flip(1).T.to(basis)
    vectors = turn @ basis
    residuals = torch.linalg.vector_norm(turn @ pushed - values.to(basis).unsqueeze(1) * vectors, dim=1)
    return values, vectors, residuals.to(values)


def _orthonormal(rows: Tensor) -> Tensor:
    """Orthonormal rows that span, one after the other, what `rows` (l,M) span; their signs stay."""
    q, r = torch.linalg.qr(rows.T)
    return (q * r.diagonal().sign()).T


def _precise(values: Tensor) -> Tensor:
    return values.float() if values.device.type == "mps" else values.double()
