"""The demo on a Ray of three nodes: a head that takes no work, and two workers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import Driver, children_of, figures, runs_of

pytestmark = [pytest.mark.slow, pytest.mark.ray]

_STORE = 150 * 1024**2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Real nodes, all on this machine."""
    nodes = {"object_store_memory": _STORE, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **nodes})
    try:
        for _ in range(2):
            started.add_node(num_cpus=1, object_store_memory=_STORE)
        started.wait_for_nodes()
        yield started
    finally:
        started.shutdown()


def test_a_run_on_several_nodes_uses_them_and_finds_the_same(
    cluster: Cluster, demo_run: DemoRun, tmp_path: Path
) -> None:
    heads = {raylet_of(node) for node in [cluster.head_node]}
    workers = {raylet_of(node) for node in cluster.worker_nodes}
    with Driver(tmp_path / "work", "--address", str(cluster.address)) as driver:
        seen: set[int] = set()

        def worked_everywhere() -> bool:
            seen.update(parents_of_workers())
            return workers <= seen

        driver.until(worked_everywhere, "both workers have actors of a stage")
        results = driver.results()
        assert not driver.processes(only=("raylet",)), "a Ray of its own was started"
    assert not heads & seen, "the head was given work"
    assert figures(results) == figures(demo_run.results)  # where a shard is worked on decides no figure
    runs = runs_of(tmp_path / "work")
    assert len(children_of(runs, None)) == 1 and {run.info.status for run in runs} == {"FINISHED"}
    assert len(cluster.list_all_nodes()) == 3, "the run must leave a cluster it did not start as it was"


def raylet_of(node: object) -> int:
    """Process of a node's raylet: the parent of every worker on it."""
    return node.all_processes["raylet"][0].process.pid  # pyright: ignore[reportAttributeAccessIssue]


def parents_of_workers() -> set[int]:
    """Raylets under which an actor of a stage lives right now."""
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if "ray::MapWorker" in line}
