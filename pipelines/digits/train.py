"""Trains the digits ViT that ships with the package: `python -m pipelines.digits.train`.

Command   python -m pipelines.digits.train --out pipelines/digits/digits_vit.safetensors
Time      about a minute and a half on one CPU core; no download
Expected  98 % or more of the 600 held-out digits; the same machine and versions give the same bytes
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import sklearn
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.digits import MODEL_NAME, data, register

EPOCHS = 60
SEED = 0
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
MAX_SHIFT = 4  # pixels


def train(epochs: int = EPOCHS, *, seed: int = SEED) -> tuple[nn.Module, float]:
    """The model trained on the 1197 training digits, in eval mode, and its accuracy on the 600 held-out ones."""
    register()
    with _reproducible(seed):
        model = timm.create_model(MODEL_NAME, pretrained=False)
        _fit(model, data.load("train"), epochs, torch.Generator().manual_seed(seed))
        return model.eval(), accuracy(model, data.load("held_out"))


def accuracy(model: nn.Module, digits: data.Digits) -> float:
    """Share of `digits` whose largest logit is the label; `model` takes normalised (B,3,64,64)."""
    model.eval()
    with torch.inference_mode():
        predictions = model(_normalised(digits.images)).argmax(dim=1)
    return float((predictions == torch.from_numpy(digits.labels)).float().mean())


def save(model: nn.Module, path: Path, *, epochs: int, seed: int, held_out_accuracy: float) -> None:
    """Write the weights as safetensors; how they were made goes in the header."""
    metadata = {
        "script": "python -m pipelines.digits.train",
        "architecture": MODEL_NAME,
        "epochs": str(epochs),
        "seed": str(seed),
        "held_out_accuracy": f"{held_out_accuracy:.4f}",
        "versions": f"torch {torch.__version__}, timm {timm.__version__}, scikit-learn {sklearn.__version__}",
    }
    safetensors.torch.save_file(model.state_dict(), path, metadata=metadata)


def _fit(model: nn.Module, digits: data.Digits, epochs: int, generator: torch.Generator) -> None:
    images, labels = _normalised(digits.images), torch.from_numpy(digits.labels)
    steps = max(1, epochs * -(-len(labels) // BATCH))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(BATCH):
            loss = F.cross_entropy(model(_shifted(images[batch], generator)), labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _normalised(images: np.ndarray) -> Tensor:
    """Uint8 (n,64,64,3) to float (n,3,64,64) in [-1,1]: the model's mean and std are 0.5."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to MAX_SHIFT pixels each way; what comes in is paper."""
    count, _, height, width = images.shape
    padded = F.pad(images, [MAX_SHIFT] * 4, value=data.PAPER / 127.5 - 1)
    offsets = torch.randint(0, 2 * MAX_SHIFT + 1, (count, 2), generator=generator)
    rows = offsets[:, :1] + torch.arange(height)
    columns = offsets[:, 1:] + torch.arange(width)
    moved = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


@contextlib.contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seeds torch and fixes the order of its sums (one thread, deterministic kernels); restores everything after."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)


def main() -> None:
    from pipelines.digits.model import weights_path

    parser = argparse.ArgumentParser(
        prog="python -m pipelines.digits.train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=weights_path(), help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    start = time.perf_counter()
    model, held_out = train(arguments.epochs, seed=arguments.seed)
    save(model, arguments.out, epochs=arguments.epochs, seed=arguments.seed, held_out_accuracy=held_out)
    seconds = time.perf_counter() - start
    print(f"held-out accuracy {held_out:.4f} (n={data.HELD_OUT}) after {arguments.epochs} epochs, {seconds:.0f} s")
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
