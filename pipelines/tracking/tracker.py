"""The one writer to MLflow.

Lineage: experiment, one parent run per pipeline run; below it one per model where there are several, below that one per
stage, below the search one per trial. Runs are found again by their tags, so a resumed pipeline continues them. Only
explicit run ids are used: MLflow's fluent state is process-global. One process writes: the driver; its threads may
share a Tracker. Every method can be repeated, and is while the store is away.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from pipelines.redact import as_text, flatten, redact
from pipelines.tracking.connection.patience import FILE_SECONDS, SERVER_SECONDS, Patience, patiently
from pipelines.tracking.connection.store import TrackingError, absolute_uri, open_store, search_all
from pipelines.tracking.environment import user
from pipelines.tracking.ledger import NONFINITE, Ledger, in_chunks, is_finite, number

Status = Literal["FINISHED", "FAILED", "KILLED"]
Point = tuple[int | None, Mapping[str, Any], int]  # step, metrics, milliseconds since 1970

KEY = "nullspace.key"
STAGE = "nullspace.stage"
BRANCH = "nullspace.branch"
FINGERPRINT = "nullspace.fingerprint"
TRIAL = "nullspace.trial"
SESSION = "nullspace.session"
KIND = "nullspace.kind"
MODEL = "nullspace.model"
PARENT = "mlflow.parentRunId"

PARAM_LIMIT, TAG_LIMIT, PARAMS_PER_CALL, METRICS_PER_CALL = 6000, 8000, 100, 1000


class Tracker:
    """Writes one experiment of one MLflow store.

    Args:
        uri: `sqlite:///file.db`, another database, or the HTTP address of a server.
        experiment: name; made when missing. For SQLite its files lie beside the database in `artifacts/`.

    Raises TrackingError, also when the store stays away: see `patience`. `session` names this process: it is put on
    every run set RUNNING, so that a watchdog never touches the runs of another process.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = absolute_uri(uri)
        self.experiment = experiment
        self.session = uuid.uuid4().hex
        self.patience = Patience(redact(self.uri), FILE_SECONDS if self.uri.startswith("sqlite:") else SERVER_SECONDS)
        # The columns of MLflow's list of runs; the parent gets the commit as well.
        self._origin = {MLFLOW_USER: user(), MLFLOW_SOURCE_NAME: "nullspace", MLFLOW_SOURCE_TYPE: "LOCAL"}
        self._ledgers: dict[str, Ledger] = {}
        self.client, self.experiment_id = open_store(self.uri, experiment)

    # ---- runs ----------------------------------------------------------------------------------------------------

    @patiently
    def begin_run(self, key: str, *, name: str, tags: Mapping[str, Any], params: Mapping[str, Any]) -> str:
        """The parent run with this key, made or continued. Runs a dead driver left RUNNING below it become KILLED."""
        found, run_id = self._begin({KEY: key}, name=name, tags=tags, params=params)
        if found:
            self._kill_leftovers(run_id)
        return run_id

    @patiently
    def begin_stage(
        self, parent_id: str, *, stage: str, branch: str | None, fingerprint: str, params: Mapping[str, Any]
    ) -> str:
        """The child run of a stage (of one model: `branch`), made or continued: one per parent and fingerprint."""
        tags = {STAGE: stage, **({BRANCH: branch} if branch else {})}
        name = f"{stage} {branch}" if branch else stage
        # Stage and branch take part in the search: two branches may share a fingerprint, never a run.
        return self._begin({PARENT: parent_id, FINGERPRINT: fingerprint, **tags}, name=name, tags={}, params=params)[1]

    @patiently
    def begin_branch(self, parent_id: str, *, branch: str, tags: Mapping[str, Any], params: Mapping[str, Any]) -> str:
        """The child run of one model, made or continued; the model's stages begin below it."""
        identity = {PARENT: parent_id, BRANCH: branch, KIND: "model"}
        return self._begin(identity, name=branch, tags=tags, params=params)[1]

    @patiently
    def begin_trial(self, stage_run_id: str, *, trial_id: str, params: Mapping[str, Any]) -> str:
        """The grandchild run of one trial, made or continued."""
        return self._begin({PARENT: stage_run_id, TRIAL: trial_id}, name=f"trial {trial_id}", tags={}, params=params)[1]

    @patiently
    def end(self, run_id: str, status: Status) -> None:
        """Give a run its final status."""
        self.client.set_terminated(run_id, status)

    @patiently
    def close_children(self, parent_id: str, status: Status) -> list[str]:
        """Give every run below `parent_id` that is still RUNNING this status; returns their ids."""
        below = [run.info.run_id for run in self._running() if self._is_below(run, parent_id)]
        for run_id in below:
            self.end(run_id, status)
        return below

    # ---- what a run holds ----------------------------------------------------------------------------------------

    @patiently
    def params(self, run_id: str, mapping: Mapping[str, Any]) -> None:
        """Record parameters (nested mappings become `a.b`). Logging them again is harmless.

        Nothing is lost: MLflow cannot change a parameter, so a changed value goes to the tag `nullspace.changed.<key>`;
        a value over the limit is cut and stored whole in `params/<key>.txt`.
        """
        known = self._ledger(run_id).params
        values = {key: self._fit(run_id, "params", key, text, PARAM_LIMIT) for key, text in flatten(mapping).items()}
        fresh = [Param(key, value) for key, value in values.items() if key not in known]
        for chunk in in_chunks(fresh, PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=chunk)
            known.update((param.key, param.value) for param in chunk)
        self.tags(run_id, {f"nullspace.changed.{key}": v for key, v in values.items() if known[key] != v})

    @patiently
    def tags(self, run_id: str, mapping: Mapping[str, Any]) -> None:
        """Set tags; a value over the limit is cut and stored whole in `tags/<key>.txt`."""
        tags = [RunTag(key, self._fit(run_id, "tags", key, as_text(v), TAG_LIMIT)) for key, v in mapping.items()]
        for chunk in in_chunks(tags, PARAMS_PER_CALL):
            self.client.log_batch(run_id, tags=chunk)

    def metrics(
        self, run_id: str, mapping: Mapping[str, Any], step: int | None = None, *, model_id: str | None = None
    ) -> None:
        """Record metrics at one step, or as summaries (no step); see `series`. `model_id`: the logged model meant."""
        self.series(run_id, [(step, mapping, now_ms())], model_id=model_id)

    @patiently
    def series(self, run_id: str, points: Sequence[Point], *, model_id: str | None = None) -> None:
        """Record many points with few calls.

        None is "not measured" and is skipped. NaN and infinity are no metrics to MLflow's charts: they are counted in
        the tag `nullspace.nonfinite.<metric>` with their first and last step. A point of a curve the run already holds
        is not written again. Calling again after a failure with the same points is safe.
        """
        ledger = self._ledger(run_id)
        fresh: dict[tuple[str, int | None], Metric] = {}
        strange: dict[str, str] = {}
        for step, mapping, milliseconds in points:
            for key, raw in mapping.items():
                value = None if raw is None else number(key, raw)
                if value is None:
                    continue
                if not is_finite(value):
                    strange[NONFINITE + key] = ledger.note_nonfinite(key, step, value)
                elif self._is_new(run_id, ledger, key, step, value):
                    fresh[key, step] = Metric(key, value, milliseconds, step or 0, model_id=model_id, run_id=run_id)
        for chunk in in_chunks(fresh.values(), METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=chunk)
            for metric in chunk:
                _points(ledger, metric.key)[metric.step] = metric.value
        self.tags(run_id, strange)

    @patiently
    def dataset(self, run_id: str, dataset: Dataset, context: str) -> None:
        """Record what a run reads, and what for. A data set the run has already stays as it is."""
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])

    @patiently
    def artifact(self, run_id: str, local_path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder with everything in it, under `folder`."""
        path = Path(local_path)
        store = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        store(run_id, str(path), folder)

    @patiently
    def json_artifact(self, run_id: str, content: Mapping[str, Any], file: str) -> None:
        """Store a dictionary as JSON or YAML, by the ending of `file`."""
        self.client.log_dict(run_id, dict(content), file)

    @patiently
    def text_artifact(self, run_id: str, text: str, file: str) -> None:
        """Store a text."""
        self.client.log_text(run_id, text, file)

    @patiently
    def figure(self, run_id: str, figure: Any, file: str) -> None:
        """Store a matplotlib or plotly figure (`.png`, `.svg`, `.html`)."""
        self.client.log_figure(run_id, figure, file)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _begin(
        self, identity: Mapping[str, str], *, name: str, tags: Mapping[str, Any], params: Mapping[str, Any]
    ) -> tuple[bool, str]:
        run = self.find(identity)
        if run is None:
            # The session is there from the first moment: a driver killed right here leaves nothing unguarded.
            first = {**identity, SESSION: self.session, **self._origin}
            run_id = self.client.create_run(self.experiment_id, tags=first, run_name=name).info.run_id
            self._ledgers[run_id] = Ledger()
        else:
            run_id = run.info.run_id
            self._ledgers[run_id] = Ledger.of_run(run)
            self.client.set_tag(run_id, SESSION, self.session)  # before RUNNING: an old watchdog may still be looking
            self.client.update_run(run_id, status="RUNNING")
        self.tags(run_id, tags)
        self.params(run_id, params)
        return run is not None, run_id

    @patiently
    def find(self, tags: Mapping[str, str]) -> Run | None:
        """The oldest run of the experiment with all these tags, or None."""
        wanted = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items())
        found = self.client.search_runs(
            [self.experiment_id], wanted, ViewType.ACTIVE_ONLY, max_results=1, order_by=["attributes.start_time ASC"]
        )
        return found[0] if found else None

    def _running(self) -> list[Run]:
        return search_all(self.client, self.experiment_id, "attributes.status = 'RUNNING'")

    def _is_below(self, run: Run, ancestor: str) -> bool:
        parent = run.data.tags.get(PARENT)
        while parent and parent != ancestor:
            parent = self.client.get_run(parent).data.tags.get(PARENT)
        return parent == ancestor

    def _kill_leftovers(self, parent_id: str) -> None:
        for run in self._running():
            if run.data.tags.get(SESSION) != self.session and self._is_below(run, parent_id):
                self.end(run.info.run_id, "KILLED")

    def _ledger(self, run_id: str) -> Ledger:
        if run_id not in self._ledgers:
            self._ledgers[run_id] = Ledger.of_run(self.client.get_run(run_id))
        return self._ledgers[run_id]

    def _is_new(self, run_id: str, ledger: Ledger, key: str, step: int | None, value: float) -> bool:
        if key in ledger.steps and ledger.steps[key] is None:
            history = sorted(self.client.get_metric_history(run_id, key), key=lambda point: point.timestamp)
            ledger.steps[key] = {point.step: point.value for point in history}
        return ledger.is_new(key, step, value)

    def _fit(self, run_id: str, folder: str, key: str, text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        self.text_artifact(run_id, text, f"{folder}/{key.replace('/', '_')}.txt")
        return text[: limit - 1] + "…"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _points(ledger: Ledger, key: str) -> dict[int, float]:
    points = ledger.steps.get(key)
    if points is None:
        points = ledger.steps[key] = {}
    return points


def _quoted(value: str) -> str:
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise TrackingError(f"expected a name with one kind of quotation mark at most, got {value!r}; rename it")
