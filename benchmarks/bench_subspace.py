"""The sensitivity spectrum of deit_tiny, and what noise outside of it does, against Gaussian noise of equal norm.

    python benchmarks/bench_subspace.py --assets FOLDER      # 4 minutes on one core

FOLDER holds deit_tiny_patch16_224/model.safetensors and imagenet_val_600/images/*.JPEG. The spectrum is taken from 32
and from 64 images, everything else measured on others. What to expect: the top directions hold nearly all sensitivity
of their own images and little of other images', so that their complement is no better than Gaussian noise; the least
sensitive channel directions are.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import asset_images, assets_folder, deit_tiny, report

from nullspace.kernel.shift import shift_test
from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.nullness import Evidence
from nullspace.model.encoder import Encoder
from nullspace.subspace.closure import agreement_by_norm
from nullspace.subspace.jacobian import Linearised
from nullspace.subspace.sensitivity import captured_elsewhere, sensitivity_spectrum
from nullspace.subspace.spectrum import SensitivitySpectrum
from nullspace.subspace.starts import Start, least_sensitive_start

LEARNED_FROM = (32, 64)
K, ELSEWHERE, HELD_OUT = 256, 16, 100


def main() -> None:
    """Print three tables: the spectra, the last one checked, agreement by norm."""
    assets = assets_folder(__doc__)
    if assets is None:
        return
    encoder = Encoder(deit_tiny(assets))
    with torch.no_grad():
        states = encoder.states(asset_images(assets, encoder.model, max(LEARNED_FROM) + HELD_OUT))
    learned_from, others = states.split([max(LEARNED_FROM), HELD_OUT])
    shift_invariant = shift_test(encoder.model, others[:2]).invariant
    rows = []
    for count in LEARNED_FROM:
        spectrum, row = spectrum_row(encoder, learned_from[:count], shift_invariant)
        rows.append(row)
    report("sensitivity spectrum of deit_tiny, probabilities, patch tokens", rows)
    report("what the last one is worth", [checked_row(spectrum, encoder, learned_from, others[:ELSEWHERE])])
    held_out = EncoderData.of(encoder, others, shift_invariant=shift_invariant, batch_size=20)
    report("agreement on other images by relative norm, held for every token", agreement_rows(held_out, spectrum))


def spectrum_row(encoder: Encoder, states: Tensor, shift_invariant: bool) -> tuple[SensitivitySpectrum, dict[str, Any]]:
    """Spectrum of `states` from sampled rows, and what it says about them."""
    start = time.perf_counter()
    spectrum = sensitivity_spectrum(encoder, states, shift_invariant=shift_invariant, k=K, iterations=0)
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {"images": spectrum.n, "trace": spectrum.trace, "trace_stderr": spectrum.trace_stderr}
    for k in (1, 8, 64, K):
        row[f"energy top {k}"] = float(spectrum.eigenvalues[:k].sum()) / spectrum.trace
    for share in (0.9, 0.99):
        found = spectrum.effective_dimension(share)
        row[f"dimension {share:.0%}"] = f"{'>= ' if found.lower_bound else ''}{found.dimension}"
    return spectrum, row | {"seconds": round(seconds, 1)}


def checked_row(spectrum: SensitivitySpectrum, encoder: Encoder, states: Tensor, others: Tensor) -> dict[str, Any]:
    """The first eigenpair against the exact operator, and the share of other images' sensitivity in all of them."""
    vector, value = spectrum.eigenvectors[:1], float(spectrum.eigenvalues[0])
    pushed = Linearised(encoder, states).gauss_newton(vector)
    elsewhere = captured_elsewhere(spectrum, encoder, others)
    low, high = elsewhere.interval or (float("nan"), float("nan"))
    return {
        "first eigenvalue λ": value,
        "u·Gu, exact G": float((pushed * vector).sum()),
        "|Gu - λu| / λ": float((pushed - value * vector).norm()) / value,
        f"energy top {elsewhere.k} on {elsewhere.n} other images": elsewhere.share,
        "95 %": f"[{low:.3f}, {high:.3f}]",
    }


def agreement_rows(held_out: EncoderData, spectrum: SensitivitySpectrum) -> list[dict[str, Any]]:
    """Agreement with its interval for every condition and norm."""

    def start(how: Start, rank: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return least_sensitive_start(spectrum, 1.0, held_out.unit.token_norm, generator, how=how, rank=rank)

    starts = {f"channels {rank}": start("channels", rank) for rank in (1, 4, 16)} | {"kronecker": start("kronecker")}
    return [shown(row) for row in agreement_by_norm(held_out, spectrum=spectrum, others=starts)]


def shown(row: Evidence) -> dict[str, Any]:
    """The columns of one row that matter here."""
    low, high = row.metrics["agreement_ci"]
    change = row.metrics["mse_probabilities"]
    return {
        "condition": row.condition,
        "relative norm": row.relative_norm,
        "n": row.n,
        "agreement": row.agreement,
        "95 %": f"[{low:.2f}, {high:.2f}]",
        "mean |Δp|²": change,
    }


if __name__ == "__main__":
    main()
