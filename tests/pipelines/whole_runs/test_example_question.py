"""The example of docs/: a fifth question, added to a copy of the packages by its folder and a line in three files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.workflow.order import models_of
from tests.pipelines.driver import SMALL, Driver, children_of, nullspace, runs_of, stage_runs

pytestmark = [pytest.mark.slow, pytest.mark.ray]

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / "docs" / "examples"
PACKAGES = ("nullspace", "pipelines", "cluster")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with the question added as the page says."""
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(EXAMPLES / "brightness", folder / "pipelines" / "evaluations" / "brightness")
    subprocess.run(["git", "apply", str(EXAMPLES / "brightness.patch")], cwd=folder, check=True)
    return folder


def test_the_patch_adds_an_import_and_a_line_in_three_files() -> None:
    lines = (EXAMPLES / "brightness.patch").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.startswith("+++ ")]) == 3
    added = [line for line in lines if line.startswith("+") and not line.startswith("+++")]
    assert len(added) == 6 and len([line for line in added if line.startswith("+from ")]) == 3


def test_a_fifth_question_is_asked_and_answered_everywhere(copy: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    settings = {**SMALL, "resources.workers": "0", "brightness.step": "0.3"}
    driver = Driver(workdir, "--only", "brightness", settings=settings, variables={"PYTHONPATH": str(copy)})
    with driver:
        results = driver.results()
    assert [line.split()[1].partition("--")[0] for line in driver.stderr.splitlines() if line.startswith("done ")] == [
        "ingest", "reference", "brightness", "report",
    ]  # fmt: skip
    assert set(results["models"]["digits"]) == {"model", "reference", "brightness", "warnings"}
    found = results["models"]["digits"]["brightness"]
    assert found["conditions"]["unchanged"]["agreement"] == 1 and found["conditions"]["brighter"]["agreement"] < 1
    files = sorted((workdir / "stages").glob("brightness--digits-*/rows-*.parquet"))
    rows = pd.concat([pq.read_table(file).to_pandas() for file in files])
    brighter = rows[rows["condition"] == "brighter"]
    assert found["conditions"]["brighter"]["agreement"] == brighter["agree"].mean()
    assert "A step of brightness" in (workdir / "report.html").read_text(encoding="utf-8")
    (parent,) = children_of(runs_of(workdir), None)
    assert parent.data.metrics["brightness.brighter.agreement"] == brighter["agree"].mean()
    assert "| brighter |" in parent.data.tags["mlflow.note.content"]
    stage = stage_runs(runs_of(workdir), parent.info.run_id)["brightness"]
    assert stage.data.metrics["conditions.darker.agreement"] == found["conditions"]["darker"]["agreement"]
    assert models_of(results)[0].stages == [], (
        "these packages do not know the question; they read its results all the same"
    )


def test_a_wrong_name_of_a_stage_is_an_error_before_anything_is_opened(tmp_path: Path) -> None:
    answer = nullspace("run", "demo", "--workdir", str(tmp_path / "work"), "--only", "kernel_nose")
    assert answer.is_one_error and "kernel_nose" in answer.err and "kernel_noise" in answer.err
    assert not (tmp_path / "work").exists()
