"""The whole run: stages in order, finished ones reused, every one recorded in MLflow, none left incomplete."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from nullspace.paths import local_path
from pipelines.configs.pipeline import PipelineConfig
from pipelines.data.sources import open_source
from pipelines.engine.failure import branches_failed, one_line, summarise_error
from pipelines.engine.interrupts import interrupted_by, was_interrupted
from pipelines.engine.machines.compute import Compute
from pipelines.engine.machines.lanes import Job, Share, beside, side_by_side
from pipelines.engine.machines.quiet import quiet
from pipelines.engine.models import ModelFacts, learn_facts
from pipelines.engine.progress import Progress
from pipelines.engine.stage import Done, Stage
from pipelines.local_options import WORKDIR
from pipelines.redact import redact
from pipelines.report.protocol import RESULTS
from pipelines.report.terminal import as_markdown
from pipelines.stages.branch import Means
from pipelines.stages.reference.class_numbers import with_classes
from pipelines.tracking.connection.addresses import run_address
from pipelines.tracking.connection.watchdog import Watchdog
from pipelines.tracking.datasets import WHOLE_RUN
from pipelines.tracking.environment import environment, run_tags
from pipelines.tracking.model_runs import model_run
from pipelines.tracking.tracker import Tracker
from pipelines.workflow import report_stage, workfolder
from pipelines.workflow.finishing import Run
from pipelines.workflow.order import models_of
from pipelines.workflow.plan import Plan, make_plan, require_stages, with_finished, with_needs
from pipelines.workflow.publishing import publish
from pipelines.workflow.workfolder import planned


def run_pipeline(
    config: PipelineConfig,
    workdir: Path,
    *,
    address: str | None = None,
    progress: Progress | None = None,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Do everything the config says in the work folder; returns the content of results.json.

    With `only`, these stages and what they need; what other stages have found before stays in the results.
    The same call goes on where a killed one stopped. Raises NullspaceError for errors that better input cures.
    """
    quiet()
    require_stages(config, only)
    workdir = local_path(workdir, "the work folder", WORKDIR).expanduser().absolute()
    progress = progress or Progress()
    with ExitStack() as stack:
        # SIGTERM ends a run like Ctrl-C: stages stop, MLflow is told, and the next run goes on there.
        stack.enter_context(interrupted_by(signal.SIGINT, signal.SIGTERM))
        stack.enter_context(workfolder.opened(workdir, config))
        models = [learn_facts(settings, config.seed)[0] for settings in config.models]
        source = open_source(config.source)
        digest, names = source.digest(), source.class_names()
        models = [with_classes(facts, names) for facts in models]
        compute = stack.enter_context(Compute(config.resources, address=address, device=config.device))
        tracker = Tracker(tracking_uri(config, workdir), config.name)
        with _parent_run(config, workdir, tracker) as run_id:
            progress.say(f"mlflow   {run_address(tracker.uri, workdir, tracker.experiment_id, run_id)}")
            for facts in models:
                progress.say(f"model    {facts.spec.label}: {'; '.join([redact(facts.source), *facts.notes])}")
            run = Run(config, workdir, tracker, run_id, progress, compute, digest)
            plan = make_plan(config, models, digest, Means(source, compute, tracker))
            plan = with_finished(plan, only, workdir)
            # The report's folder is known when all it reads is there.
            workfolder.update_run(workdir, plan=[*planned(plan.in_order()), {"stage": "report", "folder": ""}])
            return _finish_all(run, plan, models)


def tracking_uri(config: PipelineConfig, workdir: Path) -> str:
    """MLFLOW_TRACKING_URI, else the config's, else a SQLite file beside the work folder, shared by its neighbours."""
    return os.environ.get("MLFLOW_TRACKING_URI") or config.tracking.uri or f"sqlite:///{workdir.parent / 'mlflow.db'}"


def _finish_all(run: Run, plan: Plan, models: list[ModelFacts]) -> dict[str, Any]:
    # On a cluster, `auto` is decided by asking Ray, which only the first unfinished stage starts.
    compute = run.compute
    said = environment(None if compute.address and compute.wanted == "auto" else compute.device)
    run.tracker.json_artifact(run.run_id, said, "environment.json")
    run.tracker.tags(run.run_id, run_tags(said))
    run.tracker.artifact(run.run_id, run.workdir / "config.yaml")
    if run.unfinished(plan.in_order()):
        compute.check(run.config.search.max_concurrent if run.config.search else None)
    if compute.here and run.unfinished(branch["search"] for branch in plan.branches.values() if "search" in branch):
        compute.start_soon()  # only the search needs it: the stages before it are done meanwhile
    for stage in plan.ingests.values():
        run.show_data(run.run_id, run.finish(stage), WHOLE_RUN)
    registered, errors = _finish_branches(run, plan, models)
    if len(errors) == len(models):
        raise next(iter(errors.values())) if len(errors) == 1 else branches_failed(errors, len(models))
    whole_plan, models = plan, [facts for facts in models if facts.spec.label not in errors]
    plan = plan.of_models([facts.spec.label for facts in models])
    stage = report_stage.report_stage(run.config, plan, models, registered, run.done, run.tracker, run.run_id, said)
    workfolder.update_run(run.workdir, plan=planned([*whole_plan.in_order(), stage]))
    results = report_stage.hand_over(run.finish(stage), run.workdir)
    _show(run, results)
    run.say_seconds([*plan.in_order(), stage])
    if errors:
        raise branches_failed(errors, len(errors) + len(models))
    return results


def _finish_branches(
    run: Run, plan: Plan, models: list[ModelFacts]
) -> tuple[dict[str, dict[str, Any]], dict[str, Exception]]:
    """All stages of all models, side by side as far as the cluster goes, each with its noise registered.

    Returns what was registered, in the models' order, and the errors of those that failed.
    """
    registered: dict[str, dict[str, Any]] = {}
    one_at_a_time = threading.Lock()  # equal weights under two labels are one model in MLflow

    def job(facts: ModelFacts, branch: Mapping[str, Stage]) -> Job:
        label, alone = facts.spec.label, len(models) == 1

        def finish(share: Callable[[], Share]) -> None:
            try:
                with model_run(run.tracker, run.run_id, facts, alone=alone) as model_run_id:
                    run.model_runs[label] = model_run_id
                    ingest = next(iter(branch.values())).inputs["ingest"]  # every stage of a model reads it
                    run.show_data(model_run_id, run.of(ingest), WHOLE_RUN)
                    done = _finish_stages(run, branch, share, model_run_id)
                    with one_at_a_time:
                        registered[label] = publish(run.tracker, model_run_id, run.config, facts, branch, done)
            except Exception as error:
                if not alone and not was_interrupted():
                    run.progress.say(f"failed   {label}: {summarise_error(error, run.workdir / f'failed-{label}.txt')}")
                raise

        return finish

    jobs = {facts.spec.label: job(facts, plan.branches[facts.spec.label]) for facts in models}
    left = sum(run.unfinished(branch.values()) for branch in plan.branches.values())
    lanes = run.compute.lanes(left) if left > 1 else 1  # asking starts Ray, which is not needed for a single model
    errors = side_by_side(jobs, lanes)
    return {label: registered[label] for label in jobs if label in registered}, errors


def _finish_stages(
    run: Run, branch: Mapping[str, Stage], share: Callable[[], Share], model_run_id: str
) -> dict[str, Done]:
    """All stages of one model, one after the other.

    Where this process itself works on the images, it does so while the trials of the search, which are processes of
    their own, are under way.
    """
    done: dict[str, Done] = {}

    def finish(names: Iterable[str]) -> None:
        for name in names:
            done[name] = run.finish(branch[name], share, model_run_id)

    search = branch.get("search")
    if search is not None and run.compute.here and run.unfinished([search]):
        finish(name for name in branch if name in search.inputs)
        apart = [name for name in branch if name not in done and search not in with_needs(branch[name])]
        beside(lambda: finish(["search"]), lambda: finish(apart))
    finish(name for name in branch if name not in done)
    return {name: done[name] for name in branch}


def _show(run: Run, results: Mapping[str, Any]) -> None:
    """Results and report on the run's own page in MLflow, which people open first."""
    models = models_of(results)
    for model in models:
        if model.label in run.model_runs:
            run.tracker.tags(run.model_runs[model.label], {MLFLOW_RUN_NOTE: as_markdown([model])})
    run.tracker.tags(run.run_id, {MLFLOW_RUN_NOTE: as_markdown(models, results["warnings"])})
    for name in (report_stage.REPORT, RESULTS):
        run.tracker.artifact(run.run_id, run.workdir / name)


@contextmanager
def _parent_run(config: PipelineConfig, workdir: Path, tracker: Tracker) -> Iterator[str]:
    """The run's own entry in MLflow; its true end is recorded in any case, also after kill -9."""
    key = f"{workdir}:{config.fingerprint()}"
    params = config.model_dump(mode="json", exclude={"name", "models"})
    params["models"] = {model.label: model.model_dump(mode="json", exclude={"label"}) for model in config.models}
    # One config in two folders makes two runs of it: the folder tells them apart in MLflow's list.
    name = f"{workdir.parent.name}/{workdir.name} {config.fingerprint()[:8]}"
    tags = {"nullspace.workdir": str(workdir), "nullspace.config": config.fingerprint()}
    run_id = tracker.begin_run(key, name=name, tags=tags, params=params)
    status, watchdog, why = "FINISHED", None, None
    try:
        workfolder.update_run(
            workdir,
            experiment=config.name,
            config_fingerprint=config.fingerprint(),
            experiment_id=tracker.experiment_id,
            run_id=run_id,
            tracking_uri=redact(tracker.uri),
            state="running",
            error=None,
        )
        watchdog = Watchdog.start(tracker.uri, run_id, session=tracker.session, log=workdir / "watchdog.log")
        yield run_id
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except BaseException as error:
        if was_interrupted():
            status = "KILLED"
            raise
        status, why = "FAILED", one_line(error)
        tracker.tags(run_id, {"nullspace.error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        tracker.close_children(run_id, "KILLED" if status == "KILLED" else "FAILED")
        tracker.end(run_id, status)
        workfolder.update_run(workdir, state=status.lower(), error=why)
        if watchdog is not None:
            watchdog.done()
