"""Opening an MLflow store: database and experiment are made once, by the driver, where the user asked for it."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE  # of experiments, too

from nullspace.errors import NullspaceError
from pipelines.redact import redact
from pipelines.tracking.connection.views import VIEW_TAG, models_view

DESCRIPTION = (
    "Nullspace of Vision Transformers: a run is a pipeline, with its models and stages below it and trials below the "
    "search. Views > Models compared has one row for each model."
)
# By default MLflow repeats a request, also one whose answer was lost, for four minutes without a word: see `patience`.
HTTP_DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}


class TrackingError(NullspaceError):
    """The tracking store cannot be used: wrong URI, unreachable, not writable, or its experiment was deleted."""


WRITE_ERRORS = (MlflowException, OSError, TrackingError)  # what a store that is away, locked or full raises


def open_store(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; creates what is missing. Raises TrackingError with the remedy.

    For a server, `HTTP_DEFAULTS` are put into this process's environment where the user has set nothing.
    """
    if is_server(uri):
        _refuse_credentials(uri)
        for name, value in HTTP_DEFAULTS.items():
            os.environ.setdefault(name, value)
    # It prints a traceback of every database error and raises it, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        return _open_store(uri, experiment)
    except (MlflowException, OSError) as error:
        what = reason(error) if is_server(uri) else redact(str(error)).strip()
        raise TrackingError(
            f"expected a usable MLflow store at {redact(uri)}, got {what}. {_remedy(uri, error)}"
        ) from error


def reason(error: BaseException) -> str:
    """Why the store did not answer, in one line without credentials: what the innermost cause says."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return redact(str(error)).strip().partition("\n")[0] or type(error).__name__


def _remedy(uri: str, error: Exception) -> str:
    if not is_server(uri):
        return "Use sqlite:///path/to/mlflow.db in a writable folder, or the address of a running MLflow server."
    if isinstance(error, MlflowException) and error.get_http_status_code() == 401:
        return "Put user and password into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    return "Start it, or give the address of one that runs (MLFLOW_TRACKING_URI, or tracking.uri of the config)."


def is_server(uri: str) -> bool:
    """Whether the URI is the HTTP address of an MLflow server."""
    return uri.startswith(("http://", "https://"))


def search_all(client: MlflowClient, experiment_id: str, wanted: str) -> list[Run]:
    """All runs of an experiment that match a filter, over every page of the answer."""
    page = client.search_runs([experiment_id], wanted)
    runs = list(page)
    while page.token:
        page = client.search_runs([experiment_id], wanted, page_token=page.token)
        runs.extend(page)
    return runs


def absolute_uri(uri: str) -> str:
    """The URI with a relative SQLite path made absolute: other processes have other working folders."""
    path = _sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path.as_posix()}"


def _refuse_credentials(uri: str) -> None:
    # MLflow writes the address into its errors, and it lies in configs.
    if "@" in urlsplit(uri).netloc:
        raise TrackingError(
            f"expected the address of an MLflow server without a login, got {redact(uri)}. "
            "Put user and password into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )


def _sqlite_path(uri: str) -> Path | None:
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///"))).expanduser().resolve()


def _open_store(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    path = _sqlite_path(uri)
    if path is None:
        return _open_experiment(uri, experiment, None)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two pipelines started together would both create the tables; the second waits here instead of failing.
    with FileLock(f"{path}.lock"):
        return _open_experiment(uri, experiment, path.parent / "artifacts")


def _open_experiment(uri: str, experiment: str, files: Path | None) -> tuple[MlflowClient, str]:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None and found.lifecycle_stage != "active":
        raise TrackingError(
            f"expected a live experiment {experiment!r}, got one in MLflow's trash. Restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or choose another name."
        )
    if found is not None:
        if VIEW_TAG not in found.tags:
            client.set_experiment_tag(found.experiment_id, VIEW_TAG, models_view())
        return client, found.experiment_id
    # Without a location MLflow would put files into ./mlruns of whatever folder the process was started in.
    location = None if files is None else (files / uuid.uuid4().hex[:12]).as_uri()
    try:
        tags = {MLFLOW_RUN_NOTE: DESCRIPTION, VIEW_TAG: models_view()}
        return client, client.create_experiment(experiment, artifact_location=location, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _open_experiment(uri, experiment, files)  # another pipeline made it this very moment
