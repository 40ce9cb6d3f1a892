"""Explanations, asked of the digits by a run of their own, on stages that another run has finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, Driver, children_of, client_of, runs_of, stage_runs

pytestmark = [pytest.mark.slow, pytest.mark.ray]

ATTENTION = "gradient_weighted_attention"
SETTINGS = {
    **{key: value for key, value in SMALL.items() if key != "attribution"},
    "attribution.images": "8",
    "attribution.steps": "10",
    "attribution.epsilon": "[32]",
}


def test_they_are_asked_on_what_is_there_and_answered_everywhere(demo_run: DemoRun, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    for stage in ("ingest", "reference", "kernel", "search"):
        found = demo_run.stage(stage)
        shutil.copytree(found, workdir / "stages" / found.name)
    with Driver(workdir, "--only", "attribution", settings=SETTINGS) as driver:
        results = driver.results()
        assert driver.stderr.count("reused ") >= 4 and "done     attribution--digits" in driver.stderr
    found = results["models"]["digits"]["attribution"]["conditions"]
    assert found["clean"]["n"] == 8 and found["steered"]["agreement"] == 1
    assert found["steered"][f"spearman_{ATTENTION}"] > 0.99 and found["steered"]["pixels_top"] < 0.5
    moved, signs = (found[f"away_{ATTENTION}_eps32{end}"][f"spearman_{ATTENTION}"] for end in ("", "_signs"))
    assert moved < signs and "learned" in found  # of so few images all may be among those the noise was learned from
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert "Fooling the explanation" in page and "noise in the kernel cannot change it" in page
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    stage = stage_runs(runs, parent.info.run_id)["attribution"]
    assert stage.data.metrics[f"conditions.away_{ATTENTION}_eps32.spearman_{ATTENTION}"] == moved
    assert "examples" in {file.path for file in client_of(workdir).list_artifacts(stage.info.run_id)}
    assert parent.data.metrics["attribution.steered.agreement"] == 1
