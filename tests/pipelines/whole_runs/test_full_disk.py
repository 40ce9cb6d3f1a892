"""A disk that runs full late in a run, on a real file system of some MB: the report no longer fits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, STAGES, Driver, children_of, figures, half_written, runs_of

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a file system of its own is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)


def test_a_full_disk_is_reported_and_with_room_the_same_command_goes_on(
    disk: Path, demo_run: DemoRun, tmp_path: Path
) -> None:
    workdir = disk / "work"
    for stage in STAGES[:-1]:
        found = demo_run.stage(stage)
        shutil.copytree(found, workdir / "stages" / found.name)
    resize(disk, shutil.disk_usage(disk).used // 1024 + 200)
    settings = {**SMALL, "tracking.uri": f"sqlite:///{tmp_path / 'work' / 'mlflow.db'}"}  # MLflow has another disk
    with Driver(workdir, settings=settings, logs=tmp_path) as driver:
        assert driver.finish() == 1
        assert "reused   fooling" in driver.stderr
        last = driver.stderr.splitlines()[-1]
        assert last.startswith("error: ") and "No space left on device" in last and len(last) < 600
        assert "Traceback" not in driver.stderr
    resize(disk, 50_000)
    with Driver(workdir, settings=settings, logs=tmp_path) as driver:
        results = driver.results()
        assert "reused   ingest" in driver.stderr
    assert figures(results) == figures(demo_run.results)
    assert half_written(workdir) == []
    runs = runs_of(tmp_path / "work" / "x")
    (parent,) = children_of(runs, None)
    assert parent.info.status == "FINISHED" and "RUNNING" not in {run.info.status for run in runs}
