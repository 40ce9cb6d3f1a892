"""Work folders of finished runs, as a leaderboard reads them: results and stage folders, without the stages' rows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.report.protocol import PROTOCOL
from pipelines.workflow.order import REPORTS
from tests.pipelines.report import results as written

CONTENTS = "c0ffee" * 5 + "00"
Change = Callable[[dict[str, Any]], None]


def run_results(experiment: str = "demo", change: Change | None = None) -> dict[str, Any]:
    """A whole results.json with what comparisons read; `change` edits it."""
    results = copy.deepcopy(written.all_results())
    results["protocol"] = PROTOCOL
    results["data"]["preprocessings"] = {"small": {"images": 1797, "errors": 0, "contents": CONTENTS}}
    names = ["reference", *(report.name for report in REPORTS)]
    results["run"] |= {"experiment": experiment, "run_id": f"id-{experiment}", "seed": 0}
    results["run"]["settings"] = {"search": {"epsilon": 0.05, "steps": [40]}, "kernel": {"rtol": None}}
    results["run"]["stages"] = [
        _stage(name, label, number) for number, label in enumerate(results["models"]) for name in names
    ]
    for model in results["models"].values():
        model["model"]["preprocessing_key"] = "small"
    if change is not None:
        change(results)
    return results


def _stage(name: str, label: str, number: int) -> dict[str, Any]:
    given = {"name": name, "branch": label, "version": 1, "folder": f"{name}--{number}-0a", "seconds": 1}
    return given | {"reads": _reads(name)}


def _reads(name: str) -> list[str]:
    if name in ("reference", "kernel"):
        return ["ingest"]
    return ["ingest", "reference", "kernel", *(["search"] if name == "learned_noise" else [])]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a work folder: `run("name", change=…)`."""

    def make(experiment: str = "demo", change: Change | None = None) -> Path:
        workdir = tmp_path / experiment
        for number in (0, 1):
            written.write_kernel(workdir / "stages" / f"kernel--{number}-0a", 96)
        written.write_pictures(workdir / "stages" / "visible_watermark--0-0a", ("original", "marked"))
        text = json.dumps(run_results(experiment, change))
        for file in (workdir / "results.json", workdir / "stages" / "report-0b" / "results.json"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return workdir

    return make
