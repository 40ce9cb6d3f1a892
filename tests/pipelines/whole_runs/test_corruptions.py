"""Natural corruptions, asked of the stages of the shared run: in results.json, on the page and in MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, Driver, children_of, runs_of, stage_runs

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SETTINGS = {
    **{key: value for key, value in SMALL.items() if key != "corruption"},
    "resources.workers": "0",
    "corruption.images": "8",
}


def test_they_are_asked_on_what_is_there_and_answered_everywhere(demo_run: DemoRun, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    for stage in ("ingest", "reference", "kernel"):
        found = demo_run.stage(stage)
        shutil.copytree(found, workdir / "stages" / found.name)
    with Driver(workdir, "--only", "corruption", settings=SETTINGS) as driver:
        results = driver.results()
        assert driver.stderr.count("reused ") >= 3 and "done     corruption--digits" in driver.stderr
    found = results["models"]["digits"]["corruption"]["conditions"]
    assert found["mean"]["n"] == found["mean"]["labelled"] == 8 and found["gaussian_noise_3"]["n"] == 8
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert "Natural corruptions" in page and "not defined: it needs all 15 corruptions" in page
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    stage = stage_runs(runs, parent.info.run_id)["corruption"]
    assert stage.data.metrics["conditions.jpeg_compression.kernel_share"] > 0
    assert not [name for name in stage.data.metrics if "gaussian_noise_3" in name]
    for figure in ("error", "agreement"):
        assert parent.data.metrics[f"corruption.mean.{figure}"] == found["mean"][figure]
