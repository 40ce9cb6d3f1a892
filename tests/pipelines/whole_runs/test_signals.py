"""Ctrl-C and SIGTERM in the middle of a search: a clean end with a hint, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from pipelines.commands.status import status
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, Driver, children_of, figures, half_written, runs_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def workdir(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose stages before the search are finished."""
    folder = tmp_path_factory.mktemp("signals") / "work"
    for stage in ("ingest", "reference", "kernel"):
        found = demo_run.stage(stage)
        shutil.copytree(found, folder / "stages" / found.name)
    return folder


def ctrl_c(driver: Driver) -> None:
    os.killpg(driver.process.pid, signal.SIGINT)  # a terminal tells everybody in the foreground


def terminate(driver: Driver) -> None:
    driver.process.terminate()  # a job system tells the one it started


@pytest.mark.parametrize(
    ("stop", "workers"), [(ctrl_c, "0"), (terminate, "1")], ids=["Ctrl-C beside the marks", "SIGTERM"]
)
def test_a_signal_in_the_search_ends_it_cleanly(workdir: Path, stop, workers: str) -> None:
    with Driver(workdir, settings={**SMALL, "resources.workers": workers}) as driver:
        driver.until_stage("search")
        stop(driver)
        assert driver.finish() == 130
        last = driver.stderr.splitlines()[-1]
        assert last.startswith("stopped") and str(workdir) in last and "same command" in last
        assert "Traceback" not in driver.stderr and driver.out == ""
        wait_until(lambda: not driver.processes(), "its processes end with it", pause=0.2)
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    unfinished = {run.data.tags.get("nullspace.stage", "run") for run in runs if run.info.status == "KILLED"}
    assert {run.info.status for run in runs} == {"KILLED", "FINISHED"}
    assert parent.info.status == "KILLED" and "search" in unfinished
    assert status(workdir)["state"] == "killed"


def test_the_same_command_goes_on(workdir: Path, demo_run: DemoRun) -> None:
    with Driver(workdir) as driver:
        results = driver.results()
        assert "running  search" in driver.stderr and "cannot be read" not in driver.stderr
    assert figures(results) == figures(demo_run.results)
    assert "RUNNING" not in {run.info.status for run in runs_of(workdir)}
    assert half_written(workdir) == []
    assert status(workdir)["state"] == "finished"
