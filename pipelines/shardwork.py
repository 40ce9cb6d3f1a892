"""Work spread over shards by Ray Data: actors load a model once, write their own rows, and skip what is written.

The driver hands out shard names and gets back counts: images and rows never pass through it. A shard's rows appear
whole or not at all, so a stage killed anywhere goes on at the first shard that has none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import StageError
from pipelines.files import write_table
from pipelines.progress import Progress

_RETRIES = 5  # of one shard; Ray counts a worker that dies twice when it is asked again while it starts


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
    shards: Mapping[str, int],
    *,
    out: Path,
    spread: Spread,
    progress: Progress,
) -> None:
    """Let `worker(out=…, **arguments)` actors work through the shards (images by name) that have no rows yet.

    A worker that dies, or whose node does, is started again elsewhere. Raises StageError when a shard outlives none of
    its workers, and whatever a worker raised.
    """
    left = {name: size for name, size in shards.items() if not (out / f"{worker.prefix}-{name}.parquet").exists()}
    with progress.counting(sum(shards.values()), "images") as counter:
        counter.skip(counter.total - sum(left.values()))
        if left:
            for name in _worked_through(worker, {"out": str(out), **arguments}, list(left), spread):
                counter.add(left[name])


def _worked_through(
    worker: type[ShardWorker], arguments: Mapping[str, Any], shards: Sequence[str], spread: Spread
) -> Iterator[str]:
    import ray
    from ray.data import ActorPoolStrategy
    from ray.exceptions import RayActorError

    work = ray.data.from_items([{"shard": name} for name in shards], override_num_blocks=len(shards)).map_batches(
        worker,
        fn_constructor_kwargs=dict(arguments),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(spread.workers, len(shards))),
        num_cpus=spread.cpus,
        num_gpus=spread.gpus,
        # A worker is restarted as often as it takes; a shard that kills every worker it is given ends the stage.
        max_restarts=-1,
        max_task_retries=_RETRIES,
    )
    try:
        for row in work.iter_rows():
            yield str(row["shard"])
    except RayActorError as error:
        raise StageError(
            "workers died over and over on the same images, most likely out of memory; lower batch_images, or "
            "give each worker more room with resources.workers or resources.cpus_per_worker, then repeat the command: "
            f"what is finished is kept. Ray says: {' '.join(str(error).split())}"
        ) from error
