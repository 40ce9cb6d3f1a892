"""Photographs of the assets with their labels, for the benchmarks of attacks."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from nullspace.model.images import from_uint8, round_to_uint8
from nullspace.model.vit import SplitViT


def labelled_images(assets: Path, model: SplitViT, count: int, *, start: int = 0) -> tuple[Tensor, Tensor]:
    """Images (count,3,H,W) in [0,1], of 8 bits, and labels (count,), from `start` on of the order of `asset_images`."""
    folder = assets / "imagenet_val_600"
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        labels = {row["file"]: int(row["label"]) for row in csv.DictReader(file)}
    files = sorted((folder / "images").glob("*.JPEG"))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [files[index] for index in order[start : start + count]]
    transform = model.preprocessing.transform()
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in chosen]) / 255
    return from_uint8(round_to_uint8(images)), torch.tensor([labels[path.name] for path in chosen])
