"""Does mean |Δsoftmax|² <= ε hold on images nobody looked at? Over seeded splits of the digits, six ways to scale.

    python benchmarks/bench_epsilon.py [--splits 120]          about 20 minutes on one core

Every split draws anew which of the 1797 digits noise is learned on (200), which validate (100), calibrate (400) and
test (the rest). Each way takes the same learned noise and says how large it may be; a split is kept when the mean over
the test images is at most ε. The first way is the scale that validation images allow, the second the mean alone on
fresh images; the others are upper bounds at 95 % tested in a fixed sequence of scales, the last being the one shipped.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import report

from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.metrics.mean_bound import upper_mean_bound
from nullspace.metrics.outcomes import wilson_interval
from nullspace.metrics.radius import changes, measure, null_radius
from nullspace.metrics.sample_size import LARGEST_CHANGE
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.noise.calibrated_scale import STEPS
from nullspace.noise.learn import learn_noise
from nullspace.noise.settings import NoiseSettings
from pipelines import digits
from pipelines.digits import data

LEARN, VALIDATION, CALIBRATION = 200, 100, 400
EPSILONS = (0.02, 0.05)
Way = Callable[[np.ndarray, float], bool]  # do these values in [0,1] show that the mean is at most so much?


def hoeffding(values: np.ndarray, most: float, alpha: float = 0.05) -> bool:
    return values.mean() + math.sqrt(math.log(1 / alpha) / (2 * len(values))) <= most


def empirical_bernstein(values: np.ndarray, most: float, alpha: float = 0.05) -> bool:
    """Maurer and Pontil 2009, theorem 4."""
    n, both = len(values), math.log(2 / alpha)
    return values.mean() + math.sqrt(2 * values.var(ddof=1) * both / n) + 7 * both / (3 * (n - 1)) <= most


def predictable_plug_in(values: np.ndarray, most: float, alpha: float = 0.05) -> bool:
    """Bets of Waudby-Smith and Ramdas 2024, equation (26), truncated at 3/4 of what they may be."""
    n, rank = len(values), np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(values)) / (rank + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (rank + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.minimum(np.sqrt(2 * math.log(1 / alpha) / (n * before)), 0.75 / (1 - most))
    return bool(np.cumsum(np.log1p(bets * (most - values))).max() >= math.log(1 / alpha))


WAYS: dict[str, Way] = {
    "mean of calibration images": lambda values, most: bool(values.mean() <= most),
    "Hoeffding": hoeffding,
    "empirical Bernstein": empirical_bernstein,
    "betting, predictable plug-in": predictable_plug_in,
    "betting, best in hindsight (shipped)": lambda values, most: upper_mean_bound(values, target=most) <= most,
}


def main() -> None:
    """Print a table for each epsilon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=120)
    splits = parser.parse_args().splits
    digits.register()
    encoder = Encoder(SplitViT.load(digits.MODEL_NAME))
    images = torch.from_numpy(np.ascontiguousarray(data.load("all").images.transpose(0, 3, 1, 2)))
    everything = prepare(encoder, images, shift_invariant=True)
    found: dict[float, list[dict[str, Any]]] = {epsilon: [] for epsilon in EPSILONS}
    for seed in range(splits):
        for epsilon, rows in one_split(everything, seed).items():
            found[epsilon] += rows
        if seed % 10 == 9:
            print(f"{seed + 1}/{splits} splits", flush=True)
    for epsilon, rows in found.items():
        sizes = f"{CALIBRATION} to calibrate with, {len(images) - LEARN - VALIDATION - CALIBRATION} to test"
        report(f"ε = {epsilon:g}: {splits} splits of {len(images)} digits, {sizes}", summarised(rows, epsilon))


def one_split(everything: EncoderData, seed: int) -> dict[float, list[dict[str, Any]]]:
    """For every epsilon and way: the relative norm reached, and the mean over the test images."""
    order = torch.randperm(everything.n, generator=torch.Generator().manual_seed(seed))
    sizes = [LEARN, VALIDATION, CALIBRATION, len(order) - LEARN - VALIDATION - CALIBRATION]
    learn, validation, calibration, test = (everything.subset(rows) for rows in order.split(sizes))
    settings = NoiseSettings(relative_norm=1.5, ranks=(1, 4), steps=60, batch_size=32, seed=seed)
    unit = Unit.of(learn.states, shift_invariant=True)
    learned = learn_noise(replace(learn, unit=unit), settings, held_out=validation, check_every=20)
    rows: dict[float, list[dict[str, Any]]] = {}
    for epsilon in EPSILONS:
        radius = null_radius(validation, learned.noise, epsilon=epsilon)
        scales = {
            "validation images (before)": radius.scale,
            **calibrated(calibration, learned.noise, radius.scale, epsilon),
        }
        tested = {scale: test_mean(test, learned.noise, scale) for scale in set(scales.values())}
        rows[epsilon] = [
            {"way": way, "norm": scale * learned.relative_norm, "test": tested[scale]} for way, scale in scales.items()
        ]
    return rows


def calibrated(images: EncoderData, noise: torch.Tensor, expected: float, epsilon: float) -> dict[str, float]:
    """Scale by each way (0: none): the last one before its first failure, in the sequence of `calibrate_scale`."""
    scales, open_ways = dict.fromkeys(WAYS, 0.0), set(WAYS)
    for step in STEPS:
        change, _ = changes(images, noise, scale=step * expected)
        values = change.clamp(max=LARGEST_CHANGE).numpy() / LARGEST_CHANGE
        open_ways = {way for way in open_ways if WAYS[way](values, epsilon / LARGEST_CHANGE)}
        if not open_ways:
            break
        scales |= dict.fromkeys(open_ways, step * expected)
    return scales


def test_mean(test: EncoderData, noise: torch.Tensor, scale: float) -> float:
    if scale == 0:
        return 0.0
    return measure(test, noise, scale=scale).probability_change


def summarised(rows: list[dict[str, Any]], epsilon: float) -> list[dict[str, Any]]:
    table = []
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        kept = sum(row["test"] <= epsilon for row in mine)
        low, high = wilson_interval(kept, len(mine))
        table.append(
            {
                "scaled by": way,
                "splits with test mean ≤ ε": f"{100 * kept / len(mine):.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
                "mean of test means / ε": float(np.mean([row["test"] for row in mine])) / epsilon,
                "largest": max(row["test"] for row in mine) / epsilon,
                "relative norm": float(np.mean([row["norm"] for row in mine])),
                "no scale at all": sum(row["norm"] == 0 for row in mine),
            }
        )
    return table


if __name__ == "__main__":
    main()
