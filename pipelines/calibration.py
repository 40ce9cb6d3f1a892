"""The images a search learns on and is ranked by: chosen by the split, written once, read by every trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nullspace.encoder import Encoder
from nullspace.learning import LearningData
from nullspace.vit import Outputs
from pipelines.files import written_aside
from pipelines.modelwork import read_outputs
from pipelines.shards import read_shard, shard_names, shard_path
from pipelines.split import Part, Split

_PARTS: tuple[Part, ...] = ("learn", "validation")


def write_calibration(target: Path, *, ingested: Path, reference: Path, split: Split) -> None:
    """Collect the images and clean outputs of both parts from the shards into one safetensors file."""
    chosen: dict[Part, list[tuple[str, Tensor, Outputs]]] = {part: [] for part in _PARTS}
    for name in shard_names(ingested):
        shard, outputs = read_shard(shard_path(ingested, name)), read_outputs(reference, name)
        for index, id_ in enumerate(shard.ids):
            part = split.part(id_)
            if part in chosen:
                own = Outputs(outputs.features[index].clone(), outputs.logits[index].clone())
                chosen[part].append((id_, shard.images[index].clone(), own))
    tensors: dict[str, Tensor] = {}
    for part, rows in chosen.items():
        rows.sort(key=lambda row: row[0])  # shards may be cut anew; the order of learning must not change with it
        tensors[f"{part}_images"] = torch.stack([image for _, image, _ in rows])
        tensors[f"{part}_features"] = torch.stack([outputs.features for _, _, outputs in rows])
        tensors[f"{part}_logits"] = torch.stack([outputs.logits for _, _, outputs in rows])
    with written_aside(target) as aside:
        save_file(tensors, aside)


def read_calibration(path: str, encoder: Encoder, batch_images: int) -> dict[Part, LearningData]:
    """States of both parts, computed once and kept on the device."""
    found: dict[Part, LearningData] = {}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for part in _PARTS:
            images = file.get_tensor(f"{part}_images")
            batches = _batches(images, batch_images)
            states = [encoder.states(batch.to(encoder.device).float() / 255) for batch in batches]
            features, logits = (file.get_tensor(f"{part}_{name}").to(encoder.device) for name in ("features", "logits"))
            found[part] = LearningData(torch.cat(states), Outputs(features, logits))
    return found


def _batches(images: Tensor, size: int) -> Iterator[Tensor]:
    yield from torch.split(images, size)
