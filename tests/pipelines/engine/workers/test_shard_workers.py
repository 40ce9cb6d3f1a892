"""Work spread over shards by a real Ray whose workers die: killed hard, as the system ends one out of memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.engine.machines.compute import Compute
from pipelines.engine.progress import Progress
from pipelines.engine.settings import ResourceSettings
from pipelines.engine.workers.shard_workers import ShardWorker, run_shards
from pipelines.errors import StageError

pytestmark = pytest.mark.ray


class Dying(ShardWorker):
    """Dies over `poison` whenever it gets it, and over `unlucky` the first time."""

    def table(self, shard: str, read: None) -> pa.Table:
        first = self.out / f"first-{shard}"
        if shard == "poison" or (shard == "unlucky" and not first.exists()):
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"id": [shard]})


@pytest.fixture
def compute() -> Compute:
    return Compute(ResourceSettings(workers=2, cpus_per_worker=0.5), address="local", device="cpu")


def test_a_dead_worker_is_replaced_and_a_shard_that_kills_them_all_ends_the_stage(
    compute: Compute, tmp_path: Path
) -> None:
    def workdir(*shards: str) -> None:
        sizes = dict.fromkeys(shards, 1)
        run_shards(Dying, {}, sizes, out=tmp_path, workers=compute.workers(), progress=Progress())

    with compute:
        workdir("fine", "unlucky")
        assert sorted(path.name for path in tmp_path.glob("*-*")) == [
            "first-unlucky", "rows-fine.parquet", "rows-unlucky.parquet",
        ]  # fmt: skip
        with pytest.raises(StageError, match="4 workers died over shard poison, most likely out of mem"):
            workdir("fine", "unlucky", "poison", "late")
        assert (tmp_path / "begun-poison").exists()
        workdir("fine", "late")
    assert not (tmp_path / "begun-poison").exists() and (tmp_path / "rows-late.parquet").exists()
