"""Shards: Parquet files of ids, uint8 images of one size, and labels (−1 unknown)."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nullspace.metrics.keyed import place
from pipelines.files import written_aside

PREFIX = "shard-"
_SHAPE = b"shape"


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
    """Table of one shard from `images` uint8 (n,3,H,W).

    An image is its bytes in that order; the field's metadata holds its shape. Lists of numbers, also Arrow's tensors,
    cost Parquet ten times as much to write and to read.
    """
    shape = images.shape[1:]
    kind = pa.binary(int(np.prod(shape)))
    buffer = pa.py_buffer(np.ascontiguousarray(images))
    image = pa.FixedSizeBinaryArray.from_buffers(kind, len(images), [None, buffer])
    fields = [
        pa.field("id", pa.string()),
        pa.field("image", kind, metadata={_SHAPE: json.dumps(shape)}),
        pa.field("label", pa.int64()),
    ]
    return pa.table([pa.array(ids, pa.string()), image, pa.array(labels, pa.int64())], schema=pa.schema(fields))


def write_shard(target: Path, table: pa.Table) -> Path:
    """Write a shard's table: no dictionary of images, no statistics of their bytes, uncompressed.

    Photographs shrink by 4 % under lz4, which doubles the time to write and takes half as much again to read.
    """
    with written_aside(target) as aside:
        pq.write_table(table, aside, compression="none", use_dictionary=False, write_statistics=False)
    return target


def read_shard(path: Path) -> Shard:
    table = pq.read_table(path).combine_chunks()
    images = images_of(table.column("image"), table.schema.field("image"))
    labels = torch.tensor(table.column("label").to_pylist(), dtype=torch.int64)
    return Shard(table.column("id").to_pylist(), torch.from_numpy(images), labels)


def images_of(column: pa.ChunkedArray, field: pa.Field) -> np.ndarray:
    """uint8 (n,3,H,W), in memory of its own: Arrow's is read-only, and torch wants memory it may write to."""
    shape = json.loads((field.metadata or {})[_SHAPE])
    chunks = [np.frombuffer(chunk.buffers()[1], np.uint8)[_bytes(chunk)].reshape(-1, *shape) for chunk in column.chunks]
    return np.concatenate([np.empty((0, *shape), np.uint8), *chunks])


def _bytes(chunk: pa.FixedSizeBinaryArray) -> slice:
    width = chunk.type.byte_width
    return slice(chunk.offset * width, (chunk.offset + len(chunk)) * width)


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


def ids_of(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Names of shards with ids of theirs, in order; a long shard comes in several pieces."""
    for name in shard_sizes(folder):
        for batch in pq.ParquetFile(shard_path(folder, name)).iter_batches(columns=["id"]):
            yield name, batch.column("id").to_pylist()


def lowest_places(folder: Path, seed: int, count: int) -> list[int]:
    """The `count` lowest places (see `split.place`) among all images, streamed: memory does not grow with them."""
    return heapq.nsmallest(count, (place(id_, seed) for _, ids in ids_of(folder) for id_ in ids))
