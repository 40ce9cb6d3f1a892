"""How null learned noise is on other images: every metric with its controls, scaled, added, from other seeds.

    python benchmarks/bench_nullness.py --assets FOLDER          about 10 minutes on one core

deit_tiny; two noises (seeds 0 and 1) at relative norm 0.5, 1000 image-steps each on 100 images with 50 to choose the
step by; measured on 100 others. "other images" of the transfer table are yet another 100.
"""

from __future__ import annotations

from typing import Any

import torch
from common import asset_images, assets_folder, deit_tiny, report

from nullspace.kernel.shift import shift_test
from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.metrics.nullness import Evidence, measure_nullness
from nullspace.model.encoder import Encoder
from nullspace.noise.learn import learn_noise
from nullspace.noise.settings import NoiseSettings
from nullspace.subspace.closure import additivity, scaling_curve, transfer

SETTINGS = {"relative_norm": 0.5, "ranks": (1, 4, 16), "steps": 81, "batch_size": 10}
METRICS = ("mse_features", "mse_logits", "mse_probabilities", "confidence_change")


def main() -> None:
    """Learn two noises and print the four tables."""
    assets = assets_folder(__doc__)
    if assets is None:
        return
    encoder = Encoder(deit_tiny(assets))
    images = asset_images(assets, encoder.model, 350)
    invariant = shift_test(encoder.model, images[:2]).invariant
    fit, validation = (prepare(encoder, part, shift_invariant=invariant) for part in (images[:100], images[100:150]))
    noises = {}
    for seed in (0, 1):
        settings = NoiseSettings(seed=seed, **SETTINGS)  # pyright: ignore[reportArgumentType]
        learned = learn_noise(fit, settings, held_out=validation, check_every=9)
        noises[f"seed {seed}"] = learned.noise
    with torch.no_grad():
        sets = {
            name: EncoderData.of(encoder, encoder.states(images[part]), shift_invariant=invariant, batch_size=20)
            for name, part in (("images", slice(150, 250)), ("other images", slice(250, 350)))
        }
    held_out, first, second = sets["images"], noises["seed 0"], noises["seed 1"]
    report(
        "learned noise and controls of equal norm, 100 held-out images",
        [full(row) for row in measure_nullness(held_out, first, draws=2)],
    )
    report("scaling: agreement of a·v", [short(row, "scale") for row in scaling_curve(held_out, first)])
    report("sums of two learned noises", [short(row) for row in additivity(held_out, first, second)])
    report("transfer to other seeds and images", [short(row, "noise", "on") for row in transfer(sets, noises)])


def short(row: Evidence, *details: str) -> dict[str, Any]:
    low, high = row.metrics["agreement_ci"]
    return {
        "condition": row.condition, **{name: row.details.get(name, "") for name in details},
        "relative norm": row.relative_norm, "agreement": row.agreement, "95 %": f"[{low:.2f}, {high:.2f}]", "n": row.n,
        "mse_probabilities": row.metrics["mse_probabilities"],
    }  # fmt: skip


def full(row: Evidence) -> dict[str, Any]:
    more = {name: f"{row.metrics[name]:.3g} {interval(row.metrics[f'{name}_ci'])}" for name in METRICS}
    sizes = {"norm": row.norm, "without shift": row.effective_norm, "spread": row.spread}
    return short(row) | sizes | more | {"within ε = 0.05": row.within(0.05)}


def interval(ends: list[float] | None) -> str:
    return "" if ends is None else f"[{ends[0]:.3g}, {ends[1]:.3g}]"


if __name__ == "__main__":
    main()
