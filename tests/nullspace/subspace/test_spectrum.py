"""The spectrum as a result: samples and projections outside its top directions, channel directions, its file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nullspace.errors import ArtifactError
from nullspace.metrics.norms import mean_token_norm, remove_shift, spread, token_norms
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.noise.channel_start import least_sensitive
from nullspace.subspace.spectrum import SensitivitySpectrum
from tests.nullspace.subspace.sensitive import spectrum_of, states_of


@pytest.mark.parametrize("seed", range(3))
def test_samples_keep_every_promise(spectrum: SensitivitySpectrum, seed: int) -> None:
    found = spectrum.sample(0.5, 3.0, torch.Generator().manual_seed(seed))
    assert found.noise.dtype == torch.float32
    assert token_norms(found.noise).numpy() == pytest.approx(1.5, rel=1e-5)
    assert float(found.noise.mean(-1).abs().max()) < 1e-6
    assert found.top_share == spectrum.top_share(found.noise) < 2e-6
    assert 0 < found.rounds < 100
    assert spread(found.noise) == pytest.approx(1, rel=1e-6)
    again = spectrum.sample(0.5, 3.0, torch.Generator().manual_seed(seed))
    assert torch.equal(again.noise, found.noise)


def test_projection_is_orthogonal(spectrum: SensitivitySpectrum) -> None:
    noise = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left = spectrum.project(noise)
    torch.testing.assert_close(spectrum.project(left), left, rtol=0, atol=1e-12)
    assert float((left.flatten(1) @ spectrum.eigenvectors.flatten(1).T).abs().max()) < 1e-12
    assert spectrum.top_share(spectrum.eigenvectors[3]) == pytest.approx(1)
    assert spectrum.top_share(torch.zeros(16, 24)) == 0
    torch.testing.assert_close(
        left.square().sum((1, 2)) + (noise - left).square().sum((1, 2)), noise.square().sum((1, 2))
    )


def test_samples_of_the_complement_change_less_than_gaussian(model: SplitViT) -> None:
    encoder = Encoder(model)
    states = states_of(encoder)
    spectrum = spectrum_of(encoder, states, k=16)
    clean = encoder.logits(states).softmax(-1)

    def change(noise: Tensor) -> float:
        return float((encoder.logits(encoder.add(states, noise)).softmax(-1) - clean).square().sum())

    unit = mean_token_norm(states)
    generator = torch.Generator().manual_seed(0)
    inside = sum(change(spectrum.sample(0.05, unit, generator).noise.double()) for _ in range(5))
    drawn = [remove_shift(torch.randn(16, 24, generator=generator, dtype=torch.float64)) for _ in range(5)]
    outside = sum(change(0.05 * unit * noise / noise.norm(dim=-1, keepdim=True)) for noise in drawn)
    assert inside < 0.05 * outside, (inside, outside)


def test_channel_directions_rise_and_leave_out_the_shift(spectrum: SensitivitySpectrum) -> None:
    values, directions = least_sensitive(spectrum.channels, shift_invariant=True)
    torch.testing.assert_close(directions.T @ directions, torch.eye(23, dtype=torch.float64), rtol=0, atol=1e-10)
    assert bool((values.diff() >= 0).all()) and float(directions.sum(0).abs().max()) < 1e-9
    measured = torch.einsum("di,de,ei->i", directions, spectrum.channels, directions)
    torch.testing.assert_close(measured / measured.mean(), values, rtol=1e-6, atol=1e-12)
    raw, _ = least_sensitive(spectrum.channels, shift_invariant=False)
    torch.testing.assert_close(raw[1:] * 23 / 24, values, rtol=1e-6, atol=1e-10)


def test_save_and_load(spectrum: SensitivitySpectrum, tmp_path: Path) -> None:
    spectrum.save(tmp_path / "spectrum.safetensors")
    loaded = SensitivitySpectrum.load(tmp_path / "spectrum.safetensors")
    assert loaded.to_dict() == spectrum.to_dict() == json.loads(json.dumps(spectrum.to_dict(), allow_nan=False))
    assert torch.equal(loaded.eigenvectors, spectrum.eigenvectors) and torch.equal(loaded.channels, spectrum.channels)
    assert [path.name for path in tmp_path.iterdir()] == ["spectrum.safetensors"]
    (tmp_path / "other").write_bytes(b"not a file of tensors")
    with pytest.raises(ArtifactError, match="no readable spectrum"):
        SensitivitySpectrum.load(tmp_path / "other")
    with pytest.raises(ArtifactError, match="no readable spectrum"):
        SensitivitySpectrum.load(tmp_path / "missing")
    with pytest.raises(ArtifactError, match="cannot write the spectrum .* check that the folder is there"):
        spectrum.save(tmp_path / "missing" / "spectrum.safetensors")
