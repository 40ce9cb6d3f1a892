"""Work spread over shards by Ray Data: actors load a model once, write their own rows, and skip what is written.

The driver hands out shard names and gets back counts: images and rows never pass through it, unless it is told to do
the work itself. A shard's rows appear whole or not at all, so a stage killed anywhere goes on at the first shard that
has none.
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
import torch

from pipelines.engine.failure import user_error
from pipelines.engine.progress import Progress
from pipelines.errors import StageError
from pipelines.files import write_table

_LIVES = 4  # workers that a shard may cost: its node may die under it, its images may not fit into memory
_BEGUN = "begun-"


@dataclass(frozen=True)
class Workers:
    """How many actors a stage gets, and what each of them holds; `here` there are none: this process does the work."""

    count: int
    cpus: float
    gpus: float
    here: bool = False


class ShardWorker(ABC):
    """Base of the actors: `table(shard)` makes the rows of one shard; this class writes them, once."""

    prefix = "rows"

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    @abstractmethod
    def table(self, shard: str) -> pa.Table:
        """Rows of one shard, each with its `id`."""

    def write(self, target: Path, table: pa.Table) -> None:
        """Put the table where it belongs, whole or not at all."""
        write_table(target, table)

    def target(self, shard: str) -> Path:
        return self.out / f"{self.prefix}-{shard}.parquet"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = [self._done(str(shard)) for shard in batch["shard"]]
        return {"shard": batch["shard"], "rows": np.asarray(rows, dtype=np.int64)}

    def _done(self, shard: str) -> int:
        target = self.target(shard)
        if not target.exists():
            begun = _begin(self.out, shard)
            self.write(target, self.table(shard))
            begun.unlink(missing_ok=True)
        return pq.read_metadata(target).num_rows


def _begin(out: Path, shard: str) -> Path:
    """Note that a worker begins with a shard. Raises StageError when several have died over it.

    Ray starts a dead worker anew and gives it the same shard, for ever.
    """
    begun = out / f"{_BEGUN}{shard}"
    died = begun.stat().st_size if begun.exists() else 0
    if died >= _LIVES:
        raise StageError(
            f"{died} workers died over shard {shard}, most likely out of memory; lower batch_images, or give each "
            "worker more room with resources.workers or resources.cpus_per_worker, then repeat the command: what is "
            "finished is kept"
        )
    with begun.open("ab") as file:
        file.write(b"|")
    return begun


def run_shards(
    worker: type[ShardWorker],
    arguments: Mapping[str, Any],
    shards: Mapping[str, int],
    *,
    out: Path,
    workers: Workers,
    progress: Progress,
) -> None:
    """Let `worker(out=…, **arguments)` actors work through the shards (images by name) that have no rows yet.

    A worker that dies, or whose node does, is started again elsewhere. Where workers are `here` a worker in this
    process takes one shard after the other. Raises StageError when a shard outlives its workers, and whatever a worker
    raised.
    """
    for file in out.glob(f"{_BEGUN}*"):
        file.unlink()  # of an earlier run: what killed it was not the shard
    left = {name: size for name, size in shards.items() if not (out / f"{worker.prefix}-{name}.parquet").exists()}
    with progress.counting(sum(shards.values()), "images") as counter:
        counter.skip(counter.total - sum(left.values()))
        if left:
            rows = (_rows_here if workers.here else _rows)(worker, {"out": str(out), **arguments}, list(left), workers)
            for row in rows:
                if row["error"]:
                    raise StageError(row["error"])
                counter.add(left[str(row["shard"])])


def _rows(
    worker: type[ShardWorker], arguments: Mapping[str, Any], shards: Sequence[str], workers: Workers
) -> Iterator[Mapping[str, Any]]:
    """What `ShardActor`s say of each shard, as they finish them."""
    import ray
    from ray.data import ActorPoolStrategy

    work = ray.data.from_items([{"shard": name} for name in shards], override_num_blocks=len(shards)).map_batches(
        ShardActor,
        fn_constructor_kwargs={"worker": worker, "arguments": dict(arguments)},
        batch_size=1,
        compute=ActorPoolStrategy(size=min(workers.count, len(shards))),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
    )
    yield from work.iter_rows()


def _rows_here(
    worker: type[ShardWorker], arguments: Mapping[str, Any], shards: Sequence[str], workers: Workers
) -> Iterator[Mapping[str, Any]]:
    """The same without Ray, with as many threads as an actor has: sums in another order would be other numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(workers.cpus)))
    try:
        actor = ShardActor(worker, arguments)
        for name in shards:
            yield {key: values[0] for key, values in actor({"shard": np.array([name])}).items()}
    finally:
        torch.set_num_threads(threads)


class ShardActor:
    """A worker as Ray runs it. What better input cures is answered, not raised: Ray would make a traceback of it."""

    def __init__(self, worker: type[ShardWorker], arguments: Mapping[str, Any]) -> None:
        self.refusal = ""
        try:
            self.worker = worker(**arguments)
        except Exception as error:  # noqa: BLE001  told or raised again
            self.refusal = message_or_raise(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        said, refusal = {"shard": batch["shard"], "rows": np.zeros(len(batch["shard"]), np.int64)}, self.refusal
        if not refusal:
            try:
                said = self.worker(batch)
            except Exception as error:  # noqa: BLE001  told or raised again
                refusal = message_or_raise(error)
        return {**said, "error": np.asarray([refusal] * len(batch["shard"]))}


def message_or_raise(error: Exception) -> str:
    """The message of an error that better input cures; any other is raised again."""
    known = user_error(error)
    if known is None:
        raise error
    return str(known)
