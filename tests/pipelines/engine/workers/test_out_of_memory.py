"""Memory runs out for real: a worker takes more than there is, and Ray's own memory monitor kills it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.engine.progress import Progress
from pipelines.engine.workers.shard_workers import ShardWorker, run_shards
from pipelines.errors import StageError

if TYPE_CHECKING:
    from pipelines.engine.machines.compute import Compute

pytestmark = [pytest.mark.slow, pytest.mark.ray]

_GB = 1 << 30
_ROOM = 2.5 * _GB  # above what is in use before Ray starts; Ray itself and an idle worker take about half of it
_TAKEN = 6 * _GB
_STEP = _GB // 8


class Hungry(ShardWorker):
    """Takes far more memory than there is room for: over `vast` whenever it gets it, over `large` the first time."""

    def table(self, shard: str, read: None) -> pa.Table:
        first = self.out / f"first-{shard}"
        if shard == "vast" or (shard == "large" and not first.exists()):
            first.touch()
            held = []
            while psutil.virtual_memory().available > 2 * _GB:  # others may give memory back meanwhile
                held.append(np.ones(_STEP, np.uint8))  # written to: memory only asked for is not in use yet
                time.sleep(0.05)
            time.sleep(60)  # a busy machine's monitor is late
            raise RuntimeError(f"the memory monitor let {sum(map(len, held))} bytes pass")
        return pa.table({"id": [shard]})


@pytest.fixture
def compute(monkeypatch: pytest.MonkeyPatch) -> Compute:
    """A Ray that ends workers when this machine uses a little more memory than now."""
    memory = psutil.virtual_memory()
    if memory.available < _TAKEN + 2 * _GB:
        pytest.skip(f"needs {(_TAKEN + 2 * _GB) / _GB:.0f} GB of free memory, there are {memory.available / _GB:.1f}")
    limit = (memory.total - memory.available + _ROOM) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{limit:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    # Imported here: every worker that is started anew imports this file, and torch would take it seconds.
    from pipelines.engine.machines.compute import Compute
    from pipelines.engine.settings import ResourceSettings

    return Compute(ResourceSettings(workers=1, cpus_per_worker=1), address="local", device="cpu")


def test_a_worker_out_of_memory_is_replaced_and_one_that_always_is_ends_the_stage(
    compute: Compute, tmp_path: Path
) -> None:
    def workdir(*shards: str) -> None:
        sizes = dict.fromkeys(shards, 1)
        run_shards(Hungry, {}, sizes, out=tmp_path, workers=compute.workers(), progress=Progress())

    with compute:
        workdir("small", "large")
        assert (tmp_path / "first-large").exists(), "it was never out of memory"
        rows = [pq.read_table(file).column("id").to_pylist() for file in sorted(tmp_path.glob("rows-*"))]
        assert rows == [["large"], ["small"]]
        with pytest.raises(StageError) as raised:
            workdir("small", "large", "vast")
    text = str(raised.value)
    assert text.startswith("4 workers died over shard vast, most likely out of memory; lower batch_images")
    assert "resources.workers" in text and "\n" not in text
