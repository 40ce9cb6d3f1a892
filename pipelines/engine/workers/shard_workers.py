"""Work spread over shards by Ray Data: actors load a model once, write their own rows, and skip what is written.

The driver hands out shard names and gets back counts: images and rows never pass through it, unless it does the
work itself. A shard's rows appear whole or not at all, so a stage killed anywhere goes on at the first shard that
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
from pipelines.engine.workers.overlap import overlapped
from pipelines.errors import StageError
from pipelines.files import write_table

_LIVES = 4  # workers that may die over one shard: a node may fail, or its images may not fit into memory
_BEGUN = "begun-"
_AT_ONCE = 4  # shards an actor is handed at once, so that it can read one while it works on another
_TURNS = 8  # an actor is handed shards at least so often: progress is visible, and fast actors take over from slow ones


@dataclass(frozen=True)
class Workers:
    """How many actors a stage gets, and what each of them holds; `here` there are none: this process does the work."""

    count: int
    cpus: float
    gpus: float
    here: bool = False


class ShardWorker(ABC):
    """Base of the actors: `table(shard, read)` makes the rows of one shard; this class writes them, once."""

    prefix = "rows"

    def __init__(self, out: str) -> None:
        self.out = Path(out)

    def read(self, shard: str) -> Any:
        """What a thread can read of a shard while the one before is worked on; nothing by default."""
        return None

    @abstractmethod
    def table(self, shard: str, read: Any) -> pa.Table:
        """Rows of one shard, each with its `id`, from what `read(shard)` gave."""

    def write(self, target: Path, table: pa.Table) -> None:
        """Write the table to its place, whole or not at all."""
        write_table(target, table)

    def target(self, shard: str) -> Path:
        return self.out / f"{self.prefix}-{shard}.parquet"

    def work(self, shards: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Each shard with its number of rows, once its file is there: those first that have one."""
        left = []
        for shard in shards:
            if self.target(shard).exists():
                yield shard, _count(self.target(shard))
            else:
                left.append(shard)
        yield from overlapped(left, read=self.read, make=self._make_shard, write=self._write_shard)

    def _make_shard(self, shard: str, read: Any) -> pa.Table:
        _begin(self.out, shard)
        return self.table(shard, read)

    def _write_shard(self, shard: str, table: pa.Table) -> tuple[str, int]:
        target = self.target(shard)
        self.write(target, table)
        _begun(self.out, shard).unlink(missing_ok=True)
        return shard, _count(target)


def _count(file: Path) -> int:
    return pq.read_metadata(file).num_rows


def _begun(out: Path, shard: str) -> Path:
    return out / f"{_BEGUN}{shard}"


def _begin(out: Path, shard: str) -> None:
    """Note that a worker begins with a shard. Raises StageError when several have died over it.

    Ray restarts a dead worker and gives it the same shard, without end.
    """
    begun = _begun(out, shard)
    died = begun.stat().st_size if begun.exists() else 0
    if died >= _LIVES:
        raise StageError(
            f"{died} workers died over shard {shard}, most likely out of memory; lower batch_images, or give each "
            "worker more room with resources.workers or resources.cpus_per_worker, then repeat the command: what is "
            "finished is kept"
        )
    with begun.open("ab") as file:
        file.write(b"|")


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
    process takes one shard after the other. Raises StageError when a shard ends several workers, and whatever a worker
    raised.
    """
    for file in out.glob(f"{_BEGUN}*"):
        file.unlink()  # of an earlier run, which was not ended by the shard
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
    """What the `ShardActor`s report of each shard, as they finish them."""
    import ray
    from ray.data import ActorPoolStrategy

    handed = _handed(len(shards), workers.count)
    blocks = -(-len(shards) // handed)
    work = ray.data.from_items([{"shard": name} for name in shards], override_num_blocks=blocks).map_batches(
        ShardActor,
        fn_constructor_kwargs={"worker": worker, "arguments": dict(arguments)},
        batch_size=None,
        compute=ActorPoolStrategy(size=min(workers.count, blocks)),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
    )
    yield from work.iter_rows()


def _handed(shards: int, workers: int) -> int:
    """How many of so many shards an actor is handed at once."""
    return max(1, min(_AT_ONCE, shards // (_TURNS * max(1, workers))))


def _rows_here(
    worker: type[ShardWorker], arguments: Mapping[str, Any], shards: Sequence[str], workers: Workers
) -> Iterator[Mapping[str, Any]]:
    """The same without Ray, with as many threads as an actor has: the order of summation changes the numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(workers.cpus)))
    try:
        yield from ShardActor(worker, arguments).work(shards)
    finally:
        torch.set_num_threads(threads)


class ShardActor:
    """A worker as Ray runs it. Errors that better input cures are returned, not raised: Ray would add a traceback."""

    def __init__(self, worker: type[ShardWorker], arguments: Mapping[str, Any]) -> None:
        self.refusal = ""
        try:
            self.worker = worker(**arguments)
        except Exception as error:  # noqa: BLE001  returned or raised again
            self.refusal = message_or_raise(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        counts = list(self.work([str(shard) for shard in batch["shard"]]))
        return {key: np.asarray([each[key] for each in counts]) for key in counts[0]}

    def work(self, shards: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The report on each shard, up to the first refusal."""
        refusal = self.refusal
        if not refusal:
            try:
                for shard, rows in self.worker.work(shards):
                    yield {"shard": shard, "rows": rows, "error": ""}
            except Exception as error:  # noqa: BLE001  reported or raised again
                refusal = message_or_raise(error)
        if refusal:
            yield {"shard": shards[0], "rows": 0, "error": refusal}


def message_or_raise(error: Exception) -> str:
    """The message of an error that better input cures; any other is raised again."""
    known = user_error(error)
    if known is None:
        raise error
    return str(known)
