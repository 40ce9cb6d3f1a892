"""Where noise learning may begin: directions that a model feels least, read off its `SensitivitySpectrum`.

Directions of token noise do not carry over to other images, sums over tokens do. On deit_tiny the top 64 directions of
50 images hold 1 % of the sensitivity of 50 others. Noise in the 16 least sensitive channel directions
left .91 and .87 of predictions at relative norm .5 unchanged and .48 and .40 at 1, Gaussian noise .67 and .74, .09 and
.06 (two sets of 64 and 100 images, 100 other images, one draw each). Fewer directions depend more on draw and images:
with 4, .82 and .92, .33 and .54; with a single one, .67 and .89, .16 and .40.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from nullspace.errors import NullspaceError
from nullspace.metrics.norms import check_token_norm
from nullspace.noise.channel_start import least_sensitive
from nullspace.subspace.spectrum import SensitivitySpectrum

Start = Literal["channels", "kronecker", "complement"]
FLOOR = 1e-6  # of the mean eigenvalue: what is smaller is rounding, and would get all of the noise


def least_sensitive_start(
    spectrum: SensitivitySpectrum,
    relative_norm: float,
    token_norm: float,
    generator: torch.Generator,
    *,
    how: Start = "channels",
    rank: int = 16,
) -> Tensor:
    """Random noise (N,D) where the model feels little, every token of norm relative_norm * token_norm, without shift.

    "channels": each token a random combination of the `rank` least sensitive channel directions. "kronecker": normal
    noise with covariance (T ⊗ C)^-1, with T and C the token and channel sums of G. "complement": `spectrum.sample`.
    """
    check_token_norm(token_norm)
    count, dim = spectrum.eigenvectors.shape[1:]
    if how == "complement":
        return spectrum.sample(relative_norm, token_norm, generator).noise
    if how == "channels":
        _, directions = least_sensitive(spectrum.channels.double(), spectrum.shift_invariant)
        if not 1 <= rank <= directions.shape[1]:
            raise NullspaceError(f"expected 1 <= rank <= {directions.shape[1]} channel directions, got {rank}")
        drawn = torch.randn(count, rank, generator=generator, dtype=torch.float64) @ directions[:, :rank].T
    elif how == "kronecker":
        drawn = torch.randn(count, dim, generator=generator, dtype=torch.float64)
        drawn = _inverse_root(spectrum.tokens) @ drawn @ _inverse_root(spectrum.channels)
    else:
        raise NullspaceError(f'expected how "channels", "kronecker" or "complement", got {how!r}')
    return spectrum.held(drawn, relative_norm * token_norm).float()


def _inverse_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance.double())
    return (vectors * values.clamp_min(FLOOR * float(values.mean())).rsqrt()) @ vectors.T
