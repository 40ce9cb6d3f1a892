"""What a run would do: every stage with its folder, and whether it is finished; nothing is written or started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from nullspace.paths import local_path
from pipelines.configs.pipeline import PipelineConfig
from pipelines.data.sources import open_source
from pipelines.engine.machines.quiet import quiet
from pipelines.engine.models import learn_facts
from pipelines.engine.stage import RECORD, find_done
from pipelines.files import read_json
from pipelines.local_options import WORKDIR
from pipelines.stages.branch import Means
from pipelines.stages.reference.class_numbers import with_classes
from pipelines.workflow import report_stage, workfolder
from pipelines.workflow.plan import Plan, make_plan, require_stages, with_finished
from pipelines.workflow.workfolder import PLAN


def dry_run(config: PipelineConfig, workdir: Path, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The stages in order: `stage`, `state` (`reused` or `to do`), `folder`, and `seconds` where it is finished.

    A stage is identified by its settings and by the stages it reads, not by their results; so its folder is known
    beforehand. Only the report also depends on MLflow run ids: its folder is None while any of its inputs is to do.
    """
    quiet()
    require_stages(config, only)
    workdir = local_path(workdir, "the work folder", WORKDIR).expanduser().absolute()
    workfolder.check_owner(workdir, config.name)
    models = [learn_facts(settings, config.seed)[0] for settings in config.models]
    source = open_source(config.source)
    digest, names = source.digest(), source.class_names()
    nothing = cast(Any, None)  # workers and the tracker are not part of a stage's identity
    plan = make_plan(config, [with_classes(facts, names) for facts in models], digest, Means(source, nothing, nothing))
    plan = with_finished(plan, only, workdir)
    stages = plan.in_order()
    found = [_stage(each.key, each.folder(workdir), find_done(each, workdir) is not None) for each in stages]
    made = _report(config, plan, workdir) if all(each["state"] == "reused" for each in found) else None
    return [*found, _stage("report", made, made is not None)]


def _stage(key: str, folder: Path | None, done: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"stage": key, "state": "reused" if done else "to do"}
    row["folder"] = None if folder is None else str(folder)
    return row | ({"seconds": read_json(folder / RECORD)["seconds"]} if done and folder is not None else {})


def _report(config: PipelineConfig, plan: Plan, workdir: Path) -> Path | None:
    """The folder of the report of the last run, if it had the same config and read the same stages."""
    record_of_run = workfolder.read_run(workdir) or {}
    name = next((each["folder"] for each in record_of_run.get(PLAN, []) if each["stage"] == "report"), "")
    record = workdir / "stages" / name / RECORD
    if not name or not record.is_file() or record_of_run.get("config_fingerprint") != config.fingerprint():
        return None
    made = read_json(record)
    reads = {stage.key: stage.fingerprint for stage in plan.in_order()}
    same = made["version"] == report_stage.VERSION and made["inputs"] == reads
    return record.parent if same and made["settings"]["run_id"] == record_of_run.get("run_id") else None
