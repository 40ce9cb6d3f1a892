"""Shards: Parquet files of ids, uint8 images of one size, and labels (−1 unknown)."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines.split import place

PREFIX = "shard-"


@dataclass(frozen=True)
class Shard:
    """Images of one shard: `images` uint8 (n,3,H,W)."""

    ids: list[str]
    images: torch.Tensor
    labels: torch.Tensor

    def batches(self, size: int) -> Iterator[slice]:
        for start in range(0, len(self.ids), size):
            yield slice(start, min(start + size, len(self.ids)))


def shard_table(ids: Sequence[str], images: np.ndarray, labels: Sequence[int]) -> pa.Table:
    """Table of one shard from `images` uint8 (n,3,H,W)."""
    tensor_type = pa.fixed_shape_tensor(pa.uint8(), images.shape[1:])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), int(np.prod(images.shape[1:])))
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "image": pa.ExtensionArray.from_storage(tensor_type, storage),
            "label": pa.array(labels, pa.int64()),
        }
    )


def read_shard(path: Path) -> Shard:
    table = pq.read_table(path).combine_chunks()
    column = table.column("image")
    shape = tuple(column.type.shape)
    if table.num_rows:
        # Copied: Arrow's memory is read-only, and torch wants memory it may write to.
        images = np.concatenate([chunk.to_numpy_ndarray() for chunk in column.chunks]).copy()
    else:
        images = np.empty((0, *shape), np.uint8)
    labels = torch.tensor(table.column("label").to_pylist(), dtype=torch.int64)
    return Shard(table.column("id").to_pylist(), torch.from_numpy(images), labels)


def shard_sizes(folder: Path) -> dict[str, int]:
    """Images of each shard of an ingest folder that holds at least one, by the shard's name, in order."""
    files = sorted(folder.glob(f"{PREFIX}*.parquet"))
    counts = {file.stem.removeprefix(PREFIX): pq.read_metadata(file).num_rows for file in files}
    return {name: count for name, count in counts.items() if count}


def shard_path(folder: Path, name: str) -> Path:
    return folder / f"{PREFIX}{name}.parquet"


def first_images(folder: Path, count: int) -> torch.Tensor:
    """The first `count` images of an ingest folder, float (n,3,H,W) in [0,1]."""
    found: list[torch.Tensor] = []
    for name in shard_sizes(folder):
        found.append(read_shard(shard_path(folder, name)).images[: count - sum(map(len, found))])
        if sum(map(len, found)) >= count:
            break
    return torch.cat(found).float() / 255


def lowest_places(folder: Path, seed: int, count: int) -> list[int]:
    """The `count` lowest places (see `split.place`) among all images, streamed: memory does not grow with them."""

    def places() -> Iterator[int]:
        for name in shard_sizes(folder):
            for batch in pq.ParquetFile(shard_path(folder, name)).iter_batches(columns=["id"]):
                yield from (place(id_, seed) for id_ in batch.column("id").to_pylist())

    return heapq.nsmallest(count, places())
