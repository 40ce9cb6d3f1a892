"""The images a search learns on and is ranked by: chosen by the split, written once, read by every trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nullspace.vit import SplitViT
from pipelines.files import written_aside
from pipelines.modelwork import read_outputs
from pipelines.shards import read_shard, shard_names, shard_path
from pipelines.split import Part, Split

_PARTS: tuple[Part, ...] = ("learn", "validation")


@dataclass(frozen=True)
class Calibration:
    """Tokens (n,N,D) and clean logits (n,K) of the images of one part, on the model's device."""

    tokens: Tensor
    logits: Tensor


def write_calibration(target: Path, *, ingested: Path, reference: Path, split: Split) -> None:
    """Collect the images and clean logits of both parts from the shards into one safetensors file."""
    chosen: dict[Part, list[tuple[str, Tensor, Tensor]]] = {part: [] for part in _PARTS}
    for name in shard_names(ingested):
        shard, outputs = read_shard(shard_path(ingested, name)), read_outputs(reference, name)
        for index, id_ in enumerate(shard.ids):
            part = split.part(id_)
            if part in chosen:
                chosen[part].append((id_, shard.images[index].clone(), outputs.logits[index].clone()))
    tensors: dict[str, Tensor] = {}
    for part, rows in chosen.items():
        rows.sort(key=lambda row: row[0])  # shards may be cut anew; the order of learning must not change with it
        tensors[f"{part}_images"] = torch.stack([image for _, image, _ in rows])
        tensors[f"{part}_logits"] = torch.stack([logits for _, _, logits in rows])
    with written_aside(target) as aside:
        save_file(tensors, aside)


def read_calibration(path: str, model: SplitViT, device: str, batch_images: int) -> dict[Part, Calibration]:
    """Tokens of both parts, computed once and kept on the device."""
    found: dict[Part, Calibration] = {}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for part in _PARTS:
            images = file.get_tensor(f"{part}_images")
            tokens = [model.tokens(batch.to(device).float() / 255) for batch in _batches(images, batch_images)]
            found[part] = Calibration(torch.cat(tokens), file.get_tensor(f"{part}_logits").to(device))
    return found


def _batches(images: Tensor, size: int) -> Iterator[Tensor]:
    yield from torch.split(images, size)
