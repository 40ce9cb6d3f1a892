"""Starts in the least sensitive directions: of the asked norm, and less sensitive than random ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nullspace.metrics.norms import remove_shift, token_norms
from nullspace.noise.channel_start import least_sensitive
from nullspace.subspace.spectrum import SensitivitySpectrum
from nullspace.subspace.starts import least_sensitive_start


@pytest.mark.parametrize("how", ["channels", "kronecker", "complement"])
def test_starts_are_held_and_less_sensitive_than_chance(spectrum: SensitivitySpectrum, how: Any) -> None:
    def to_first_order(noise: Tensor) -> float:
        """|noise|² in G's own geometry, of what the top 12 eigenpairs see."""
        parts = spectrum.eigenvectors.flatten(1) @ noise.double().flatten()
        return float((spectrum.eigenvalues * parts.square()).sum())

    generator = torch.Generator().manual_seed(0)
    starts = [least_sensitive_start(spectrum, 0.25, 4.0, generator, how=how, rank=3) for _ in range(8)]
    for start in starts:
        assert start.dtype == torch.float32 and tuple(start.shape) == (16, 24)
        assert token_norms(start).numpy() == pytest.approx(1.0, rel=1e-5)
        assert float(start.mean(-1).abs().max()) < 1e-6
    drawn = [remove_shift(torch.randn(16, 24, generator=generator)) for _ in range(8)]
    chance = sum(to_first_order(noise / noise.norm(dim=-1, keepdim=True)) for noise in drawn)
    assert sum(to_first_order(start) for start in starts) < 0.5 * chance


def test_channel_start_lies_in_its_directions(spectrum: SensitivitySpectrum) -> None:
    start = least_sensitive_start(spectrum, 1.0, 1.0, torch.Generator().manual_seed(0), rank=3).double()
    directions = least_sensitive(spectrum.channels, shift_invariant=True)[1][:, :3].T
    torch.testing.assert_close(start @ directions.T @ directions, start, rtol=0, atol=1e-6)
