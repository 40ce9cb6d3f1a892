"""Learned noise against the published algorithm: disagreement at equal norm per token, and what it costs.

    python benchmarks/bench_noise.py --assets FOLDER          about 50 minutes on one core
    python benchmarks/bench_noise.py --assets FOLDER --image-steps 1200

deit_tiny, 300 images to learn from, 300 others to test on. The published algorithm (AdamW, cosine, free norm) runs
once; its noise is rescaled to each norm in question, token by token as ours is held. Ours learns anew at each norm with
a third as many image-steps (images run forward and back, the start included), on 250 of the images; the other 50 say
which step's noise is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import asset_images, deit_tiny, environment, report, with_assets
from torch import Tensor

from nullspace.metrics.controls import gaussian
from nullspace.metrics.draws import Draws
from nullspace.metrics.encoder_data import EncoderData, prepare
from nullspace.metrics.norms import spread
from nullspace.metrics.outcomes import wilson_interval
from nullspace.metrics.radius import measure
from nullspace.model.encoder import Encoder
from nullspace.noise.baselines import PublishedSettings, learn_published
from nullspace.noise.learn import learn_noise
from nullspace.noise.learner import NoiseSettings

NORMS = (0.25, 0.5, 1.0)
LIMITS = (1.0,)  # from the published grid; begins at 0.58 times the mean token norm of this model
SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of a run, at which the curve is measured


class Curve:
    """Disagreement on the test images against image-steps and seconds of learning, at each norm."""

    def __init__(self, test: EncoderData, method: str, total: int) -> None:
        self.test, self.method = test, method
        self.wanted: list[float] = [share * total for share in SHARES]
        self.rows: list[dict[str, Any]] = []
        self.begun, self.paused = time.perf_counter(), 0.0

    def see(self, image_steps: int, noise: Tensor, norms: tuple[float, ...], last: bool = False) -> None:
        """Measure when the next share of the run is reached; the clock of learning stands still meanwhile."""
        if not self.wanted or (image_steps < self.wanted[0] and not last):
            return
        self.wanted = [steps for steps in self.wanted if steps > image_steps]
        now = time.perf_counter()
        for norm in norms:
            held = self.test.unit.hold(noise, norm)
            self.rows.append(self._row(image_steps, now - self.begun - self.paused, held, norm))
        self.paused += time.perf_counter() - now

    def _row(self, image_steps: int, seconds: float, noise: Tensor, norm: float) -> dict[str, Any]:
        n = self.test.n
        found = measure(self.test, noise)
        low, high = wilson_interval(round((1 - found.agreement) * n), n)
        row = {
            "method": self.method, "norm": norm, "image_steps": image_steps, "seconds": seconds,
            "disagreement": 1 - found.agreement, "low": low, "high": high, "n": n,
            "mse_probabilities": found.probability_change, "spread": spread(noise),
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        return row


def published(learn: EncoderData, test: EncoderData, total: int) -> list[dict]:
    rows = []
    for limit in LIMITS:
        curve = Curve(test, f"published, limit {limit}", total)
        settings = PublishedSettings(
            algorithm="adamw", limit=limit, learning_rate=0.05, rounds=total // 20, batch_size=20
        )
        found = learn_published(learn, settings, progress=lambda n, v, c=curve: c.see(n, v, NORMS))
        curve.see(found.image_steps, found.noise, NORMS, last=True)
        rows += curve.rows
    return rows


def ours(learn: EncoderData, test: EncoderData, total: int) -> list[dict]:
    rows = []
    fit, validation = learn.subset(slice(0, 250)), learn.subset(slice(250, None))
    for norm in NORMS:
        curve = Curve(test, "ours", total)
        settings = NoiseSettings(relative_norm=norm, ranks=(1, 4, 16, 64, 192), steps=total // 10, batch_size=10)
        found = learn_noise(
            fit, settings, held_out=validation, check_every=max(1, settings.steps // 20),
            progress=lambda learner, _, c=curve, r=norm: c.see(learner.image_steps, learner.noise, (r,)),
        )  # fmt: skip
        curve.wanted = [total]
        curve.see(found.image_steps, found.noise, (norm,), last=True)
        print(f"norm {norm}: kept the noise of step {found.best_step} of {settings.steps}", flush=True)
        rows += curve.rows
    return rows


def controls(test: EncoderData) -> list[dict]:
    drawn = torch.randn(test.encoder.noise_shape, generator=torch.Generator().manual_seed(0))
    noise = gaussian(drawn, Draws(1, "gaussian", ["all images"]), shift_invariant=True)[0]
    curve = Curve(test, "Gaussian", 1)
    curve.see(0, noise, NORMS, last=True)
    return curve.rows


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per norm: the last of each method's curve, ratio, and the time ours took to reach the published end."""
    found = []
    for norm in NORMS:
        of = [row for row in rows if row["norm"] == norm]
        ends = {row["method"]: row for row in of}  # the last row of a method is the end of its curve
        theirs = min((row for name, row in ends.items() if "published" in name), key=lambda row: row["disagreement"])
        own, chance = ends["ours"], ends["Gaussian"]
        reached = next((r for r in of if r["method"] == "ours" and r["disagreement"] <= theirs["disagreement"]), None)
        found.append(
            {
                "norm": norm,
                "Gaussian": chance["disagreement"],
                "published": theirs["disagreement"],
                "of run": theirs["method"],
                "image-steps": theirs["image_steps"],
                "ours": own["disagreement"],
                "ours 95 %": f"[{own['low']:.3f}, {own['high']:.3f}]",
                "its image-steps": own["image_steps"],
                "ours/published": own["disagreement"] / theirs["disagreement"],
                "spread": own["spread"],
                "time ratio": theirs["seconds"] / reached["seconds"] if reached else float("nan"),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=os.environ.get("NULLSPACE_ASSETS"))
    parser.add_argument("--image-steps", type=int, default=12_000, help="of the published algorithm")
    parser.add_argument("--only", choices=("published", "ours"), help="one half, to run both side by side")
    parser.add_argument("--out", type=Path, help="add the rows of the curves to this JSON file, and tabulate all in it")
    given = with_assets(parser)
    model = deit_tiny(given.assets)
    encoder = Encoder(model)
    learn, test = (
        prepare(encoder, asset_images(given.assets, model, 300, start=start), shift_invariant=True)
        for start in (0, 300)
    )
    test = replace(test, unit=learn.unit)
    rows: list[dict[str, Any]] = []
    if given.only != "ours":
        rows += controls(test) + published(learn, test, given.image_steps)
    if given.only != "published":
        rows += ours(learn, test, given.image_steps // 3)
    if given.out:
        known = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
        rows = known + rows
        given.out.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    if {"ours", "Gaussian"} <= {row["method"] for row in rows}:
        report("Disagreement on 300 held-out images, norm held for every token, deit_tiny", table(rows))


if __name__ == "__main__":
    main()
