"""kill -9 in every kind of stage: the same command goes on, and in the end everything is as if nothing had happened.

One chain of kills in one work folder, told as one test: each link needs what the one before left.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.workflow import workfolder
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import (
    EVALUATIONS,
    STAGES,
    Driver,
    children_of,
    figures,
    half_written,
    runs_of,
    stage_runs,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# Ray's two agents leave about a minute after their node died; they hold no data and no CPU.
AGENTS = ("DashboardAgent", "RuntimeEnvAgent")

# Questions are asked by one function, see `evaluations/base.py`: one stands for all. The kernel is over too soon.
KILLED_IN = ("ingest", "reference", "search", "kernel_noise", "report")


def test_a_run_killed_in_every_kind_of_stage_ends_as_if_it_was_not(demo_run: DemoRun, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    kept: dict[Path, int] = {}
    for stage in KILLED_IN:
        kill_in(stage, workdir)
        now = written(workdir)
        assert kept.items() <= now.items(), f"killed in {stage}: what was finished before was made again"
        kept = now
    with Driver(workdir) as driver:
        results = driver.results()
        assert driver.stderr.count("reused ") >= len(STAGES) - 1  # the report may have been done before its kill came
    # One trial at a time and the same seed: bit for bit the numbers of a run nobody killed.
    assert figures(results) == figures(demo_run.results)
    check_ids(workdir, demo_run)
    check_lineage(workdir, kills=len(KILLED_IN))
    assert half_written(workdir) == []


def kill_in(stage: str, workdir: Path) -> None:
    """Start the command, kill it in a stage; its processes must go, and MLflow must hear of it."""
    with Driver(workdir) as driver:
        driver.until_stage(stage)
        driver.kill()
        wait_until(lambda: not driver.processes(but=AGENTS), f"Ray ends after its driver, in {stage}", pause=0.2)
        closed = {"KILLED", "FINISHED"}
        wait_until(lambda: {run.info.status for run in runs_of(workdir)} <= closed, "runs are closed", pause=0.2)
    (parent,) = children_of(runs_of(workdir), None)
    assert parent.info.status == "KILLED" or stage == "report"
    assert not workfolder.is_held(workdir)


def written(workdir: Path) -> dict[Path, int]:
    """Shards and rows that are there, finished stage or not, by their inode: a file made again has another."""
    files = (workdir / "stages").glob("*/*-??????.parquet")
    return {Path(file.parent.name.removesuffix(".partial"), file.name): file.stat().st_ino for file in files}


def check_ids(workdir: Path, demo_run: DemoRun) -> None:
    """No row lost or doubled in any stage."""
    for stage in ("reference", *EVALUATIONS):
        (folder,) = (workdir / "stages").glob(f"{stage}-*")
        counted = [rows(folder), rows(demo_run.stage(stage))]
        assert counted[0] == counted[1] and len(set(counted[0])) == len(counted[0])


def rows(folder: Path) -> list[tuple[str, str]]:
    table = pq.read_table([str(file) for file in sorted(folder.glob("rows-*.parquet"))])
    conditions = table.column("condition").to_pylist() if "condition" in table.column_names else [""] * len(table)
    return sorted(zip(table.column("id").to_pylist(), conditions, strict=True))


def check_lineage(workdir: Path, *, kills: int) -> None:
    """One parent run, one run per stage, one per trial; all finished. A trial that a kill took may stay as KILLED."""
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    stages = stage_runs(runs, parent.info.run_id)
    assert set(stages) == set(STAGES)
    assert {run.info.status for run in (parent, *stages.values())} == {"FINISHED"}
    (folder,) = (workdir / "stages").glob("search-*")
    trials = pq.read_table(folder / "trials.parquet").column("trial_id").to_pylist()
    told = {
        run.data.tags["nullspace.trial"]: run.info.status for run in children_of(runs, stages["search"].info.run_id)
    }
    assert {trial for trial, status in told.items() if status == "FINISHED"} == set(trials)
    assert set(told.values()) <= {"FINISHED", "KILLED"} and len(told) <= len(trials) + kills
    assert len(runs) == 1 + len(STAGES) + len(told)
