"""Actors that hold a model: what the reference and all evaluations share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nullspace.model.vit import Outputs
from pipelines.data.shards import Shard, read_shard, shard_path
from pipelines.engine.models import ModelSpec
from pipelines.engine.workers.batch_size import BatchSize, fitting
from pipelines.engine.workers.shard_workers import ShardWorker


class ModelShards(ShardWorker):
    """Loads the model once; `rows(shard)` gives a table of one shard's images."""

    gradients = False
    """Whether `rows` takes gradients somewhere, under `torch.enable_grad`."""

    def __init__(
        self, out: str, model: ModelSpec, shards: str, device: str, batch_images: int, fixed: bool = True
    ) -> None:
        """`batch_images` at once; on a GPU, unless it is `fixed`, as many as its memory is likely to hold."""
        super().__init__(out)
        self.model = model.load(device)
        self.device = torch.device(device)
        self.shards = Path(shards)
        found = batch_images if fixed else fitting(self.model, self.device, batch_images, gradients=self.gradients)
        self.batch_size = BatchSize(found)
        self.class_numbers = None if model.class_numbers is None else torch.tensor(model.class_numbers)

    @abstractmethod
    def rows(self, name: str, shard: Shard) -> pa.Table:
        """Rows of one shard."""

    def read(self, shard: str) -> Shard:
        return self._labelled(read_shard(shard_path(self.shards, shard)))

    def table(self, shard: str, read: Shard) -> pa.Table:
        with torch.no_grad() if self.gradients else torch.inference_mode():
            return self.rows(shard, read)

    def _labelled(self, shard: Shard) -> Shard:
        """The shard, which models share, with this model's own class numbers."""
        if self.class_numbers is None:
            return shard
        known = shard.labels >= 0
        labels = torch.where(known, self.class_numbers[shard.labels.clamp(min=0)], shard.labels)
        return replace(shard, labels=labels)

    def pixels(self, shard: Shard, batch: slice) -> Tensor:
        """Images of the batch on the device, float in [0,1]."""
        return self.on_device(shard.images[batch])

    def on_device(self, images: Tensor) -> Tensor:
        """8-bit images (n,3,H,W) on the device, float in [0,1]."""
        if self.device.type != "cuda":
            return images.to(self.device).float() / 255
        # Only copies from pinned memory run beside the computation.
        return images.pin_memory().to(self.device, non_blocking=True).float() / 255


def read_outputs(reference: Path, name: str) -> Outputs:
    """Clean features and logits of one shard, in the shard's own order."""
    table = pq.read_table(reference / f"rows-{name}.parquet", columns=["features", "logits"])
    return Outputs(features=_matrix(table, "features"), logits=_matrix(table, "logits"))


def _matrix(table: pa.Table, column: str) -> Tensor:
    chunked = table.column(column).combine_chunks()
    flat = torch.from_numpy(chunked.flatten().to_numpy(zero_copy_only=False).copy())
    return flat.reshape(len(chunked), -1)
