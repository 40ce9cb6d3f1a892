"""The report: results.json and report.html from the results of all stages."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.configs.pipeline import PipelineConfig
from pipelines.engine.models import ModelFacts
from pipelines.engine.stage import Context, Done, Stage
from pipelines.files import read_json, write_json, written_aside
from pipelines.redact import redact
from pipelines.report.page import write_report
from pipelines.report.protocol import PROTOCOL, RESULTS
from pipelines.report.saved_figures import save_figures
from pipelines.settings import deciding
from pipelines.tracking.tracker import Tracker
from pipelines.workflow.order import models_of
from pipelines.workflow.plan import EVALUATIONS, Plan
from pipelines.workflow.results import all_warnings, data_results, model_results

VERSION = 6
REPORT = "report.html"
STAGES = ("reference", "kernel", "search", *(each.name for each in EVALUATIONS))


def report_stage(
    config: PipelineConfig,
    plan: Plan,
    models: list[ModelFacts],
    registered: Mapping[str, Mapping[str, Any]],
    done: Mapping[str, Done],
    tracker: Tracker,
    run_id: str,
    environment: Mapping[str, Any],
) -> Stage:
    """The last stage. It reads all others, so that any change makes a new report."""
    config_said = config.model_dump(mode="json")

    def make(context: Context) -> dict[str, Any]:
        ingested = {key: done[stage.place] for key, stage in plan.ingests.items()}
        found = {
            facts.spec.label: model_results(
                facts,
                {name: done[stage.place] for name, stage in plan.branches[facts.spec.label].items()},
                registered.get(facts.spec.label, {}),
            )
            for facts in models
        }
        results = {
            "protocol": PROTOCOL,
            "warnings": all_warnings(ingested, found),
            "models": found,
            "data": data_results(ingested, config_said["source"]),
            "run": _run(config, plan, done, tracker, run_id),
            "environment": dict(environment),
        }
        write_json(context.folder / RESULTS, results)
        models_found = models_of(results, _folders(plan, done))
        ingests = [each.folder for each in ingested.values()]
        write_report(results, models_found, context.folder / REPORT, ingests=ingests, config=config_said)
        save_figures(models_found, context.folder / "figures")
        return {}

    return Stage(
        name="report",
        version=VERSION,
        settings={"name": config.name, "run_id": run_id, "registered": {k: dict(v) for k, v in registered.items()}},
        inputs={stage.key: stage for stage in plan.in_order()},
        make=make,
    )


def _run(config: PipelineConfig, plan: Plan, done: Mapping[str, Done], tracker: Tracker, run_id: str) -> dict[str, Any]:
    stages = [
        {
            "name": stage.name,
            "branch": stage.branch,
            "version": stage.version,
            "folder": stage.place,
            "reads": list(stage.inputs),
            "seconds": round(done[stage.place].seconds, 3),
            "reused": done[stage.place].reused,
        }
        for stage in plan.in_order()
    ]
    return {
        "experiment": config.name,
        "run_id": run_id,
        # What the results cost, also where a stage was made by an earlier run.
        "seconds": round(sum(stage["seconds"] for stage in stages), 3),
        "tracking_uri": redact(tracker.uri),
        "config_fingerprint": config.fingerprint(),
        "seed": config.seed,
        "settings": {name: deciding(section) for name in STAGES if (section := getattr(config, name)) is not None},
        "stages": stages,
    }


def _folders(plan: Plan, done: Mapping[str, Done]) -> dict[str, dict[str, Path]]:
    """Folders of finished stages, by label and name."""
    return {
        label: {name: done[stage.place].folder for name, stage in branch.items()}
        for label, branch in plan.branches.items()
    }


def hand_over(done: Done, workdir: Path) -> dict[str, Any]:
    """Put report and results where people look first; returns the results."""
    for name in (RESULTS, REPORT):
        with written_aside(workdir / name) as aside:
            shutil.copyfile(done.folder / name, aside)
    return read_json(workdir / RESULTS)
