"""Shards worked through by the run itself: the rows, refusals and places to go on from are those of Ray's actors."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from nullspace.errors import NullspaceError
from pipelines.engine.progress import Progress
from pipelines.engine.workers.shard_workers import ShardWorker, Workers, run_shards
from pipelines.errors import StageError


class Working(ShardWorker):
    """Says how many threads it had; refuses `bad`, and breaks over `broken`."""

    def table(self, shard: str, read: None) -> pa.Table:
        if shard == "bad":
            raise NullspaceError("expected a good shard, got a bad one")
        if shard == "broken":
            raise ZeroDivisionError
        return pa.table({"id": [shard], "threads": [torch.get_num_threads()]})


def workdir(out: Path, *shards: str) -> None:
    workers = Workers(1, 1, 0, here=True)
    run_shards(Working, {}, dict.fromkeys(shards, 1), out=out, workers=workers, progress=Progress())


def test_it_needs_no_ray_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    threads = torch.get_num_threads()
    with pytest.raises(StageError, match="expected a good shard, got a bad one"):
        workdir(tmp_path, "first", "bad", "last")
    written = (tmp_path / "rows-first.parquet").stat().st_mtime_ns
    assert not (tmp_path / "rows-last.parquet").exists() and torch.get_num_threads() == threads
    workdir(tmp_path, "first", "last")
    assert (tmp_path / "rows-first.parquet").stat().st_mtime_ns == written
    assert (tmp_path / "rows-last.parquet").exists()


def test_an_actor_s_number_of_threads_is_kept(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        workdir(tmp_path, "one")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert pq.read_table(tmp_path / "rows-one.parquet")["threads"].to_pylist() == [1]


def test_an_error_that_is_not_caused_by_the_input_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        workdir(tmp_path, "broken")
