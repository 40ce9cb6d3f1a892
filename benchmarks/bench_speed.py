"""Image-steps per second of learning noise: ours against the published loop, deit_tiny, one run, in turns.

    python benchmarks/bench_speed.py --assets FOLDER          about 3 minutes on one core

An image-step is one image run forward and back once. The published loop reads and decodes its batch, runs the clean and
the noised image through the model and goes back, at every step. Ours reads states and clean outputs computed once; that
preparation is timed apart and worth it after one pass over the images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import asset_images, assets_folder, deit_tiny, report
from PIL import Image
from torch import Tensor

from nullspace.metrics.encoder_data import prepare
from nullspace.model.encoder import Encoder
from nullspace.model.vit import SplitViT
from nullspace.noise.learner import NoiseLearner, NoiseSettings

BATCH, STEPS, TURNS = 16, 4, 3


class PublishedLoop:
    """Decode, clean pass without gradient, noised pass, backward, Adam: everything anew at every step."""

    def __init__(self, model: SplitViT, files: list[Path]) -> None:
        self.model, self.files = model, files
        self.transform = model.preprocessing.transform()
        self.noise = torch.zeros(model.num_patches, model.embed_dim, requires_grad=True)
        self.optimiser = torch.optim.AdamW([self.noise], lr=0.05, weight_decay=0.0)
        self.at = 0

    def step(self) -> None:
        chosen = [self.files[(self.at + i) % len(self.files)] for i in range(BATCH)]
        self.at += BATCH
        images = torch.stack([self._read(path) for path in chosen])
        with torch.no_grad():
            clean = self.model(images)
        noised = self.model.logits_from_tokens(self.model.tokens(images) + self.noise)
        loss = torch.linalg.vector_norm(noised - clean, dim=-1).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def _read(self, path: Path) -> Tensor:
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")).float() / 255


def main() -> None:
    assets = assets_folder(__doc__)
    if assets is None:
        return
    model = deit_tiny(assets)
    files = sorted((assets / "imagenet_val_600" / "images").glob("*.JPEG"))
    loop, encoder = PublishedLoop(model, files), Encoder(model)
    images = asset_images(assets, model, 64)
    begun = time.perf_counter()
    data = prepare(encoder, images, shift_invariant=True)
    preparation = (time.perf_counter() - begun) / len(images)
    settings = NoiseSettings(ranks=(64,), start="random", steps=10_000, batch_size=BATCH)
    learner = NoiseLearner(data, settings)
    loop.step()  # the first step of each warms up
    learner.step()
    times = {"published": 0.0, "ours": 0.0}
    for _ in range(TURNS):
        times["published"] += _timed(loop.step)
        times["ours"] += _timed(learner.step)
    images_run = BATCH * STEPS * TURNS
    speed = {name: images_run / seconds for name, seconds in times.items()}
    report(
        "Image-steps per second, deit_tiny",
        [
            {"loop": "published", "image-steps/s": speed["published"], "ratio": 1.0},
            {"loop": "ours", "image-steps/s": speed["ours"], "ratio": speed["ours"] / speed["published"]},
            {"loop": "ours, preparation once per image, s", "image-steps/s": preparation, "ratio": ""},
        ],
    )


def _timed(step: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
