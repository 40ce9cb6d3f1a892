"""One tracking server on PostgreSQL with a login, and two pipelines that wrote to it, for all tests of this folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.mlflow_server.postgres import Postgres, postgres
from tests.mlflow_server.server import Server
from tests.pipelines.driver import SMALL, Driver

USER = "admin"
# One shard: two pipelines share the machine, and each shard at work is one more process that imports torch.
ONE_SHARD = {**SMALL, "source.limit": "100", "ingest.shard_images": "100"}


@dataclass(frozen=True)
class Tracked:
    """A tracking server, its database, and what logs in to it."""

    server: Server
    database: Postgres
    password: str

    @property
    def login(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": self.password}


@dataclass(frozen=True)
class Finished:
    """A pipeline that ran to its end: work folder, results, its stderr, and the logs of its Ray."""

    workdir: Path
    results: dict[str, Any]
    stderr: str
    ray: Path


@dataclass(frozen=True)
class TwoRuns:
    """The same pipeline twice at once: one saw its server die in the middle of its search, the other did not."""

    undisturbed: Finished
    disturbed: Finished


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    """mlflow/serve.sh on PostgreSQL with a login, both in databases of their own."""
    password = secrets.token_urlsafe(16)
    with postgres("mlflow", "logins") as database:
        settings = {
            "MLFLOW_LOGIN": "true",
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_AUTH_DATABASE_URI": database.uri("logins"),
            "MLFLOW_BACKEND_STORE_URI": database.uri("mlflow"),
            "PGPASSWORD": database.password,
        }
        with Server(tmp_path_factory.mktemp("server"), settings) as server:
            yield Tracked(server, database, password)


@pytest.fixture
def client(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the server that is logged in."""
    for name, value in tracked.login.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(tracking_uri=tracked.server.url, registry_uri=tracked.server.url)


@pytest.fixture(scope="session")
def two_runs(tracked: Tracked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoRuns]:
    """Both start at once; the server of the second is killed in its search, after the first has ended."""
    folder = tmp_path_factory.mktemp("two")
    with _pipeline(folder / "a", tracked) as (first, ray_of_first), _pipeline(folder / "b", tracked) as (second, ray):
        second.until_stage("search")
        with _paused(second):
            undisturbed = Finished(first.workdir, first.results(), first.stderr, ray_of_first)
            tracked.server.kill()
        second.until(lambda: "does not answer (" in second.stderr, "the run notices that its server is away")
        tracked.server.start()
        yield TwoRuns(undisturbed, Finished(second.workdir, second.results(), second.stderr, ray))


@contextmanager
def _pipeline(folder: Path, tracked: Tracked) -> Iterator[tuple[Driver, Path]]:
    ray = Path(tempfile.mkdtemp(prefix="ray-"))  # short: Ray's sockets lie in it
    variables = {"MLFLOW_TRACKING_URI": tracked.server.url, "RAY_TMPDIR": str(ray), **tracked.login}
    try:
        with Driver(folder / "work", settings=ONE_SHARD, variables=variables) as driver:
            yield driver, ray
    finally:
        shutil.rmtree(ray, ignore_errors=True)


@contextmanager
def _paused(driver: Driver) -> Iterator[None]:
    os.kill(driver.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(driver.process.pid, signal.SIGCONT)


def all_runs(client: MlflowClient) -> list[Run]:
    """Every run of the demo's experiment."""
    found = client.get_experiment_by_name("demo")
    assert found is not None
    return list(client.search_runs([found.experiment_id], max_results=1000))


def run_of(client: MlflowClient, run: Finished) -> Run:
    """The MLflow run of a pipeline."""
    return client.get_run(run.results["run"]["run_id"])
