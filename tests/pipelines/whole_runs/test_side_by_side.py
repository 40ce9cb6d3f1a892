"""Two models in one run, worked on side by side: stopped, then one of them failing, then both to the end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.entities import Run

from pipelines.digits.model import weights_path
from pipelines.files import read_json
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import SMALL, STAGES, Driver, children_of, data_sets_of, figures, runs_of, stage_runs

pytestmark = [pytest.mark.slow, pytest.mark.ray]

# One trial at a time for each model: two lanes of one worker each.
SETTINGS = {**SMALL, "resources.workers": "1"}


@pytest.fixture(scope="module")
def config(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with the model twice, the second from a file that can go away; all before the search is made already."""
    folder = tmp_path_factory.mktemp("side_by_side")
    for stage in ("ingest", "reference", "kernel"):
        found = demo_run.stage(stage)
        for label in ("digits", "other"):
            name = found.name.replace("--digits-", f"--{label}-")
            shutil.copytree(found, folder / "work" / "stages" / name, dirs_exist_ok=True)
    weights = shutil.copy(weights_path(), folder / "weights.safetensors")
    from pipelines.configs.reading import load_config

    content = load_config("demo").model_dump(mode="json")
    (first,) = content["models"]
    content["models"] = [first, {**first, "weights": str(weights), "label": "other"}]
    (folder / "two.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "two.yaml"


def test_sigterm_stops_both(config: Path) -> None:
    with Driver(config.parent / "work", settings=SETTINGS, config=str(config)) as driver:
        for label in ("digits", "other"):
            begun = f"stages/search--{label}-*.partial/images.safetensors"
            driver.until(lambda begun=begun: [*driver.workdir.glob(begun)], f"search of {label} is under way")
        driver.process.terminate()
        assert driver.finish() == 130
        assert driver.stderr.splitlines()[-1].startswith("stopped") and "Traceback" not in driver.stderr
    runs = runs_of(config.parent / "work")
    assert {run.info.status for run in runs} == {"KILLED", "FINISHED"}
    killed = {run.data.tags.get("nullspace.branch") for run in runs if run.info.status == "KILLED"}
    assert killed == {None, "digits", "other"}


def test_a_model_that_fails_costs_only_itself(config: Path, demo_run: DemoRun) -> None:
    workdir, weights = config.parent / "work", config.parent / "weights.safetensors"
    with Driver(workdir, settings=SETTINGS, config=str(config)) as driver:
        driver.until(lambda: "mlflow   " in driver.stderr, "the models are known")
        weights.rename(weights.with_suffix(".away"))
        assert driver.finish() == 1
        assert "failed   other: " in driver.stderr and "done     visible_watermark--digits" in driver.stderr
        last = driver.stderr.splitlines()[-1]
        assert last.startswith("error: 1 of 2 models failed: other: ") and "weights.safetensors" in last
        assert "The report has the others" in last and "Traceback" not in driver.stderr
    results = read_json(workdir / "results.json")
    assert list(results["models"]) == ["digits"] and figures(results) == figures(demo_run.results)
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    assert parent.info.status == "FAILED" and "RUNNING" not in {run.info.status for run in runs}
    models = model_runs_of(runs, parent)
    assert {label: run.info.status for label, run in models.items()} == {"digits": "FINISHED", "other": "FAILED"}
    assert "weights.safetensors" in models["other"].data.tags["nullspace.error"]


def test_the_same_command_finishes_the_rest(config: Path, demo_run: DemoRun) -> None:
    workdir, weights = config.parent / "work", config.parent / "weights.safetensors"
    weights.with_suffix(".away").rename(weights)
    with Driver(workdir, settings=SETTINGS, config=str(config)) as driver:
        results = driver.results()
        assert "reused   visible_watermark--digits" in driver.stderr and "running  search--other" in driver.stderr
    assert list(results["models"]) == ["digits", "other"]
    for label in results["models"]:
        only = {**results, "models": {"digits": results["models"][label]}}
        # Side by side, interrupted, one failing: bit for bit the numbers of one model by itself.
        assert figures(only)["learned_noise"]["conditions"] == figures(demo_run.results)["learned_noise"]["conditions"]
        for name in ("kernel_noise", "visible_watermark", "payload"):
            assert figures(only)[name] == figures(demo_run.results)[name]
    runs = runs_of(workdir)
    (parent,) = children_of(runs, None)
    assert parent.info.status == "FINISHED" and "RUNNING" not in {run.info.status for run in runs}
    check_model_runs(runs, parent, results)


def model_runs_of(runs: list[Run], parent: Run) -> dict[str, Run]:
    """The run of each model, by its label, each there once."""
    found = [run for run in children_of(runs, parent.info.run_id) if run.data.tags.get("nullspace.kind") == "model"]
    models = {run.data.tags["nullspace.branch"]: run for run in found}
    assert len(models) == len(found)
    return models


def check_model_runs(runs: list[Run], parent: Run, results: dict[str, Any]) -> None:
    """A run for each model with figures of its own under common names; none in the run of all; no run twice."""
    models = model_runs_of(runs, parent)
    assert set(models) == {"digits", "other"} and parent.data.metrics == {}
    shared = [run for run in children_of(runs, parent.info.run_id) if run not in models.values()]
    # A report of the model that did not fail was made before, too.
    assert {run.data.tags["nullspace.stage"] for run in shared} == {"ingest", "report"}
    for label, run in models.items():
        found = results["models"][label]
        learned, marked = (
            found["learned_noise"]["conditions"]["learned"],
            found["visible_watermark"]["conditions"]["marked"],
        )
        assert run.info.run_name == label and run.info.status == "FINISHED"
        assert run.data.metrics["learned_noise.learned.agreement"] == learned["agreement"]
        assert run.data.metrics["visible_watermark.marked.psnr"] == marked["psnr"]
        assert f"/stages/search--{label}-" in found["search"]["artifact"], "equal models, each with stages of its own"
        assert run.data.params["weights"] == found["model"]["weights_source"]
        assert len(data_sets_of(run)) == 1 and run.outputs is not None and len(run.outputs.model_outputs) == 1
        assert f"**{label}**" in run.data.tags["mlflow.note.content"]
        stages = stage_runs(runs, run.info.run_id)
        assert set(stages) == set(STAGES) - {"ingest", "report"}
        assert {run.data.tags["nullspace.branch"] for run in stages.values()} == {label}
    assert models["digits"].data.metrics.keys() == models["other"].data.metrics.keys()
