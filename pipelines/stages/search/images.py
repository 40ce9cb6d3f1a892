"""The images of a search (to learn on, to rank by, to calibrate with): chosen by the split, written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nullspace.metrics.encoder_data import EncoderData
from nullspace.metrics.keyed import place
from nullspace.metrics.unit import Unit
from nullspace.model.encoder import Encoder
from nullspace.model.vit import Outputs
from pipelines.data.shards import read_shard, shard_path
from pipelines.data.split import Part, Split
from pipelines.engine.workers.model_workers import read_outputs
from pipelines.files import written_aside

_PARTS: tuple[Part, ...] = ("learn", "validation", "calibration")
_ARRAYS = ("images", "features", "logits")


@dataclass(frozen=True)
class Chosen:
    """Images of a search, as arrays: uint8 `images` (n,3,H,W), clean outputs (n,·)."""

    ids: list[str]
    images: np.ndarray
    features: np.ndarray
    logits: np.ndarray


def choose(ingested: str, reference: str, shards: list[str], split: Split) -> Chosen | None:
    """The chosen images of these shards, or None where they hold none; on any node that reads the two folders."""
    found = [chosen for name in shards if (chosen := _of_shard(Path(ingested), Path(reference), name, split))]
    return join(found) if found else None


def _of_shard(ingested: Path, reference: Path, name: str, split: Split) -> Chosen | None:
    ids = pq.read_table(shard_path(ingested, name), columns=["id"]).column("id").to_pylist()
    rows = [row for row, id_ in enumerate(ids) if split.part(id_) in _PARTS]
    if not rows:
        return None  # most shards of a large source: their images are not read
    images, outputs = read_shard(shard_path(ingested, name)).images, read_outputs(reference, name)
    arrays = (values[rows].numpy() for values in (images, outputs.features, outputs.logits))
    return Chosen([ids[row] for row in rows], *arrays)


def join(parts: list[Chosen]) -> Chosen:
    """All of them in the order of their ids: shards may be cut differently, the order of learning may not change."""
    ids = [id_ for part in parts for id_ in part.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    arrays = (np.concatenate([getattr(part, name) for part in parts])[order] for name in _ARRAYS)
    return Chosen([ids[row] for row in order], *arrays)


def write_images(target: Path, chosen: Chosen, split: Split) -> None:
    """All parts, in one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for part in _PARTS:
        rows = [row for row, id_ in enumerate(chosen.ids) if split.part(id_) == part]
        if part == "calibration":  # a bound on a mean reads them in random order; ids are often sorted by class
            rows.sort(key=lambda row: place(chosen.ids[row], split.seed))
        tensors |= {f"{part}_{name}": torch.from_numpy(getattr(chosen, name)[rows]) for name in _ARRAYS}
    with written_aside(target) as aside:
        save_file(tensors, aside)


def read_images(
    path: str, parts: Sequence[Part], encoder: Encoder, unit: Unit, batch_images: int
) -> dict[Part, EncoderData]:
    """Some parts, computed once; kept on the device when they fit, else beside it and moved by the batch."""
    found: dict[Part, EncoderData] = {}
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for part in parts:
            images, features, logits = (file.get_tensor(f"{part}_{name}") for name in _ARRAYS)
            states: list[Tensor] = []
            home = encoder.device
            for batch in torch.split(images, batch_images):
                found_states = encoder.states(batch.to(encoder.device).float() / 255)
                if not states:
                    home = home_of(encoder.device, len(images) * found_states[0].nbytes)
                states.append(found_states.to(home))
            clean = Outputs(features.to(home), logits.to(home))
            found[part] = EncoderData(encoder, torch.cat(states), clean, unit, batch_images)
    return found


def home_of(device: torch.device, size: int) -> torch.device:
    """Where so many bytes are to stay: on the device unless they would take more than a quarter of what it has free.

    Joining the batches takes as much again for a moment, and learning and the trials beside this one need the rest.
    """
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if size <= free / 4 else torch.device("cpu")
