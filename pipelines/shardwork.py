"""Work spread over shards by Ray Data: actors load a model once, write their own rows, and skip what is written.

The driver hands out shard names and gets back counts: images and rows never pass through it. A shard's rows appear
whole or not at all, so a stage killed anywhere goes on at the first shard that has none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.files import write_table
from pipelines.progress import Progress


@dataclass(frozen=True)
class Spread:
    """How many actors a stage gets, and what each of them holds."""

    workers: int
    cpus: float
    gpus: float


class ShardWorker(ABC):
    """Base of the actors: `table(shard)` makes the rows of one shard; this class writes them, once."""

    prefix = "rows"

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    @abstractmethod
    def table(self, shard: str) -> pa.Table:
        """Rows of one shard, each with its `id`."""

    def target(self, shard: str) -> Path:
        return self.out / f"{self.prefix}-{shard}.parquet"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = [self._done(str(shard)) for shard in batch["shard"]]
        return {"shard": batch["shard"], "rows": np.asarray(rows, dtype=np.int64)}

    def _done(self, shard: str) -> int:
        target = self.target(shard)
        if not target.exists():
            write_table(target, self.table(shard))
        return pq.read_metadata(target).num_rows


def run_shards(
    worker: type[ShardWorker],
    arguments: Mapping[str, Any],
    shards: Sequence[str],
    *,
    out: Path,
    spread: Spread,
    progress: Progress,
) -> None:
    """Let `worker(out=…, **arguments)` actors work through the shards that have no rows yet."""
    import ray
    from ray.data import ActorPoolStrategy

    left = [name for name in shards if not (out / f"{worker.prefix}-{name}.parquet").exists()]
    with progress.counting(len(shards), "shards") as counter:
        counter.add(len(shards) - len(left))
        if not left:
            return
        work = ray.data.from_items([{"shard": name} for name in left], override_num_blocks=len(left)).map_batches(
            worker,
            fn_constructor_kwargs={"out": str(out), **arguments},
            batch_size=1,
            compute=ActorPoolStrategy(size=min(spread.workers, len(left))),
            num_cpus=spread.cpus,
            num_gpus=spread.gpus,
        )
        for _ in work.iter_rows():
            counter.add(1)
