"""The demo on a Ray of several nodes, which are killed one after the other while it runs.

One run, told as one test: what a cluster does overnight. Ray and its nodes are real, all on this machine; a worker's
process killed hard stands for one that ran out of memory, which the system ends in the same way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from pipelines.engine.machines.ray_start import patient_start
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, Driver, children_of, figures, half_written, runs_of, stage_runs
from tests.waiting import LIMIT

pytestmark = [pytest.mark.slow, pytest.mark.ray]

_STORE = 150 * 1024**2
_NOTICE = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
_ACTOR, _TRIAL = "ray::MapWorker", "ray::NoiseTrial"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that takes no work, and two nodes of one CPU each."""
    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False, "_system_config": _NOTICE}
    with patient_start():
        started = Cluster(initialize_head=True, head_node_args=head)
    try:
        with patient_start():
            for _ in range(2):
                started.add_node(num_cpus=1, object_store_memory=_STORE)
        started.wait_for_nodes(LIMIT)
        yield started
    finally:
        started.shutdown()


def test_a_run_outlives_its_nodes_and_finds_the_same(cluster: Cluster, demo_run: DemoRun, tmp_path: Path) -> None:
    heads = {raylet_of(cluster.head_node)}
    seen: set[int] = set()
    with Driver(tmp_path / "work", "--address", str(cluster.address)) as driver:

        def works(name: str) -> bool:
            seen.update(raylets_with(cluster, name))
            return bool(seen and raylets_with(cluster, name))

        for stage, process in (("ingest", _ACTOR), ("search", _TRIAL), ("kernel_noise", _ACTOR)):
            driver.until(lambda stage=stage: f"running  {stage}" in driver.stderr, f"{stage} begins")
            driver.until(lambda process=process: works(process), f"{stage} has a worker")
            kill_a_node(cluster, process)
        mark = "running  visible_watermark"
        driver.until(lambda: mark in driver.stderr and workers(cluster, _ACTOR), "the mark has a worker")
        kill_a_worker(cluster, _ACTOR)
        results = driver.results()
        assert not driver.processes(only=("raylet",)), "a Ray of its own was started"
    assert not heads & seen, "the head was given work"
    assert figures(results) == figures(demo_run.results)  # where, and how often, a shard is worked on decides no figure
    check_what_is_left(tmp_path / "work")
    assert len(cluster.list_all_nodes()) == 3, "the run must leave a cluster it did not start as it was"


def check_what_is_left(workdir: Path) -> None:
    """Every id once in every stage, nothing half written, one finished MLflow run per stage and trial."""
    assert half_written(workdir) == []
    for folder in (workdir / "stages").glob("*"):
        if files := sorted(folder.glob("rows-*.parquet")):
            rows = pq.read_table(files).to_pandas()
            keys = ["id", "condition"] if "condition" in rows else ["id"]
            asked = int(SMALL["fooling.pairs"]) if folder.name.startswith("fooling") else 120
            assert not rows.duplicated(keys).any() and rows["id"].nunique() == asked
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    stages = stage_runs(runs, parent.info.run_id)
    trials = children_of(runs, stages["search"].info.run_id)
    assert len(trials) == 2 and len(runs) == 1 + len(stages) + len(trials)
    assert {run.info.status for run in runs} == {"FINISHED"}


def kill_a_node(cluster: Cluster, process: str) -> None:
    """kill -9 of a node that works, as a power cut does it; a new node takes its place, as an autoscaler does it."""
    busy = raylets_with(cluster, process)
    node = next((node for node in cluster.worker_nodes if raylet_of(node) in busy), None)
    if node is not None:
        cluster.remove_node(node, allow_graceful=False)
        with patient_start():
            cluster.add_node(num_cpus=1, object_store_memory=_STORE)


def kill_a_worker(cluster: Cluster, name: str) -> None:
    for pid, _ in workers(cluster, name)[:1]:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself just now
            os.kill(pid, signal.SIGKILL)


def raylet_of(node: object) -> int:
    """Process of a node's raylet: the parent of every worker on it."""
    return node.all_processes["raylet"][0].process.pid  # pyright: ignore[reportAttributeAccessIssue]


def raylets_with(cluster: Cluster, name: str) -> set[int]:
    """Raylets under which such a worker lives right now."""
    return {parent for _, parent in workers(cluster, name)}


def workers(cluster: Cluster, name: str) -> list[tuple[int, int]]:
    """Process and parent process of every worker of that name; another Ray of this machine has such workers, too."""
    own = {raylet_of(node) for node in cluster.list_all_nodes()}
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines() if name in line]
    return [(int(pid), int(parent)) for pid, parent, args in rows if args.startswith(name) and int(parent) in own]
