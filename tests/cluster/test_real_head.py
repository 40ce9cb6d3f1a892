"""Jobs on a real Ray head: a driver that is killed, a run that is stopped, and what is said of both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.jobs import JobServer
from pipelines.config_file import load_config
from pipelines.status import status
from tests.cluster.head import REPOSITORY, Head, processes, submit_here
from tests.pipelines.driver import SMALL, children_of, half_written, nullspace, runs_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TINY = SMALL | {
    "source.limit": "60",
    "ingest.shard_images": "60",
    "search.trials": "1",
    "search.ranks": "[1]",
    "search.steps": "[10,10]",
    "search.report_every": "10",
    "search.grace_steps": "10",
    "search.learn_images": "20",
    "watermark.iterations": "20",
}


def sets(settings: dict[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with Head() as started, pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            patch.setenv(name, started.env[name])  # for the commands that run in this process
        yield started


@dataclass(frozen=True)
class Killed:
    """A job whose driver was killed after its first stage: what `nullspace submit --wait` printed, and its end."""

    code: int
    out: str
    work: Path
    printed_while_running: bool


@pytest.fixture(scope="module")
def killed(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("jobs")
    out, work = folder / "out", folder / "runs" / "work"
    process = submit_here(head, out, "demo", *sets(TINY), "--workdir", str(work))
    try:
        wait_until(
            lambda: "running  reference" in out.read_text(),
            "the second stage begins",
            180,
            alive=lambda: process.poll() is None,
        )
        printed = process.poll() is None
        drivers = processes("nullspace run", str(work))
        assert len(drivers) == 1, out.read_text()
        os.kill(drivers[0], signal.SIGKILL)
        return Killed(process.wait(300), out.read_text(), work, printed)
    finally:
        process.kill()


def test_a_killed_job_is_started_again_and_goes_on(killed: Killed) -> None:
    assert killed.code == 0, killed.out
    assert killed.printed_while_running
    first, _, second = killed.out.partition("\nfailed       nullspace-demo-")
    assert "exit code 137" in second and "-2, which goes on in" in second
    assert "done     ingest" in first and "reused   ingest" in second and "running  ingest" not in second
    assert "submitted    nullspace-demo-" in first and "nullspace-job.yaml" in first
    assert killed.out.splitlines()[-1].startswith(("succeeded    nullspace-demo-", "mlflow "))
    assert json.loads((killed.work / "results.json").read_text(encoding="utf-8"))["models"]


def test_mlflow_holds_every_run_of_a_killed_job_once_and_finished(killed: Killed) -> None:
    runs = runs_of(killed.work)
    (parent,) = children_of(runs, None)
    stages = [run.data.tags["nullspace.stage"] for run in children_of(runs, parent.info.run_id)]
    assert len(stages) == len(set(stages)) == 7
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert half_written(killed.work) == []


def test_jobs_lists_both_attempts(head: Head, killed: Killed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # Ray itself would ask there
    answer = nullspace("jobs", "--json", "--address", head.address)
    first, second = json.loads(answer.out)[:2]
    assert second["id"] == f"{first['id']}-2"
    assert (first["state"], first["exit_code"]) == ("FAILED", -9)
    assert (second["state"], second["exit_code"]) == ("SUCCEEDED", 0)
    assert {first["workdir"], second["workdir"]} == {str(killed.work)}
    assert str(killed.work) in nullspace("jobs", "--address", head.address).out


def test_logs_of_a_finished_job(head: Head, killed: Killed) -> None:
    (second,) = [job for job in JobServer(head.address).jobs() if job.id.endswith("-2")]
    answer = nullspace("logs", second.id, "--address", head.address)
    assert answer.code == 0 and "reused   ingest" in answer.out
    followed = nullspace("logs", second.id, "--follow", "--address", head.address)
    assert followed.code == 0 and followed.out.splitlines() == answer.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "serch.trials=1", "--workdir", "/shared"], "did you mean 'search'?"),
        (["--workdir", "runs/demo"], "expected --workdir with an absolute path, got 'runs/demo'"),
        (["--workdir", "/shared", "--set", "models.0.weights=nowhere.pth"], "there is no file"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(head: Head, arguments: list[str], message: str) -> None:
    before = JobServer(head.address).jobs()
    answer = nullspace("submit", "demo", *arguments, "--address", head.address)
    assert answer.is_one_error and message in answer.err
    assert len(JobServer(head.address).jobs()) == len(before)


def test_a_job_that_is_not_there(head: Head) -> None:
    for command in ("logs", "stop"):
        answer = nullspace(command, "nullspace-nothing", "--address", head.address)
        assert answer.is_one_error and "no job 'nullspace-nothing'" in answer.err and "latest are" in answer.err


def test_without_the_token_of_the_head(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    answer = nullspace("jobs", "--address", head.address)
    assert answer.is_one_error and "asks for Ray's token" in answer.err and "RAY_AUTH_TOKEN" in answer.err


def test_the_job_of_the_kubernetes_manifest(head: Head, killed: Killed, tmp_path: Path) -> None:
    """Its own command and environment; only the two folders it mounts are others here, and the config is small."""
    documents = list(yaml.safe_load_all((REPOSITORY / "cluster" / "rayjob.yaml").read_text(encoding="utf-8")))
    (job,) = [found["spec"] for found in documents if found["kind"] == "RayJob"]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(load_config("demo", sets(TINY)[1::2]).model_dump(mode="json")), encoding="utf-8")
    command = job["entrypoint"].replace("/etc/nullspace/config.yaml", str(config))
    command = command.replace("/shared/runs/first", str(killed.work))
    assert command.count(str(tmp_path)) == command.count(str(killed.work)) == 1, command
    server = JobServer(head.address)
    job_id = server.client.submit_job(entrypoint=command, runtime_env=yaml.safe_load(job["runtimeEnvYAML"]))
    wait_until(lambda: server.job(job_id).is_over, "the job of the manifest ends", 120)
    said = server.client.get_job_logs(job_id)
    assert server.job(job_id).code == 0, said
    assert "reused   search" in said and "running  ingest" not in said


def test_a_stopped_job_is_killed_in_mlflow_and_kept(head: Head, killed: Killed, tmp_path: Path) -> None:
    long = TINY | {"search.steps": "[100000,100000]", "search.report_every": "50"}
    order = ["demo", *sets(long), "--workdir", str(killed.work)]
    answer = nullspace("submit", *order, "--no-wait", "--json", "--address", head.address)
    assert answer.code == 0, answer.err
    job_id = json.loads(answer.out)["id"]
    process = submit_here(head, tmp_path / "out", *order)  # the same again joins it
    try:
        said = tmp_path / "out"
        wait_until(lambda: "running  search" in said.read_text(), "the search begins", 120, lambda: not process.poll())
        assert f"{job_id} does this already" in said.read_text()
        assert nullspace("status", str(killed.work)).out.startswith("demo: running")
        stopped = nullspace("stop", job_id, "--address", head.address)
        assert stopped.code == 0 and f"{job_id} stopped" in stopped.out
        assert process.wait(60) == 130
        assert "stopped      " in said.read_text()
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    runs = runs_of(killed.work)
    assert {run.info.status for run in runs} == {"FINISHED", "KILLED"}
    assert status(killed.work)["state"] == "killed"
    assert "was over already" in nullspace("stop", job_id, "--address", head.address).out
