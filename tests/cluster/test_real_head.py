"""Jobs on a real Ray head: a driver that is killed, a run that is stopped, and what is printed of both."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.jobs import JobServer
from cluster.order import make_order
from pipelines.commands.status import status
from tests.cluster.head import REPOSITORY, Head, processes, submit_here
from tests.pipelines.driver import SMALL, STAGES, children_of, half_written, nullspace, runs_of
from tests.waiting import end_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TINY = SMALL | {
    "source.limit": "60",
    "ingest.shard_images": "60",
    "search.trials": "1",
    "search.ranks": "[1]",
    "search.steps": "[10,10]",
    "search.report_every": "10",
    "search.grace_steps": "10",
    "search.learn_images": "10",
    "search.validation_images": "10",
    "visible_watermark.iterations": "20",
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
    workdir: Path
    printed_while_running: bool


@pytest.fixture(scope="module")
def killed(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("jobs")
    out, workdir = folder / "out", folder / "runs" / "work"
    process = submit_here(head, out, "demo", *sets(TINY), "--workdir", str(workdir))
    try:
        wait_until(
            lambda: "running  reference" in out.read_text(), "the second stage begins", process=process, output=out
        )
        printed = process.poll() is None
        drivers = processes("nullspace run", str(workdir))
        assert len(drivers) == 1, out.read_text()
        os.kill(drivers[0], signal.SIGKILL)
        return Killed(end_of(process, "the job ends", output=out), out.read_text(), workdir, printed)
    finally:
        process.kill()


def test_a_killed_job_is_started_again_and_goes_on(killed: Killed) -> None:
    assert killed.code == 0, killed.out
    assert killed.printed_while_running
    first, _, second = killed.out.partition("\nfailed       nullspace-demo-")
    assert "exit code 137" in second and "-2, which resumes in" in second
    assert "done     ingest" in first and "reused   ingest" in second and "running  ingest" not in second
    assert "submitted    nullspace-demo-" in first and "nullspace-job.yaml" in first
    assert killed.out.splitlines()[-1].startswith(("succeeded    nullspace-demo-", "mlflow "))
    assert json.loads((killed.workdir / "results.json").read_text(encoding="utf-8"))["models"]


def test_mlflow_holds_every_run_of_a_killed_job_once_and_finished(killed: Killed) -> None:
    runs = runs_of(killed.workdir)
    (parent,) = children_of(runs, None)
    stages = [run.data.tags["nullspace.stage"] for run in children_of(runs, parent.info.run_id)]
    assert sorted(stages) == sorted(STAGES)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert half_written(killed.workdir) == []


def test_jobs_lists_both_attempts(head: Head, killed: Killed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # Ray itself would ask there
    answer = nullspace("jobs", "--json", "--address", head.address)
    first, second = json.loads(answer.out)[:2]
    assert second["id"] == f"{first['id']}-2"
    assert (first["state"], first["exit_code"]) == ("FAILED", -9)
    assert (second["state"], second["exit_code"]) == ("SUCCEEDED", 0)
    assert {first["workdir"], second["workdir"]} == {str(killed.workdir)}
    assert str(killed.workdir) in nullspace("jobs", "--address", head.address).out


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


def test_with_another_token_than_the_heads(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    answer = nullspace("jobs", "--address", head.address)
    assert answer.is_one_error and "asks for Ray's token" in answer.err and "RAY_AUTH_TOKEN" in answer.err


def job_of_the_manifest(config: Path, workdir: Path) -> tuple[str, dict[str, Any]]:
    """Command and environment in rayjob.yaml; only the two folders it mounts are others here."""
    documents = yaml.safe_load_all((REPOSITORY / "cluster" / "rayjob.yaml").read_text(encoding="utf-8"))
    (job,) = [found["spec"] for found in documents if found["kind"] == "RayJob"]
    command = job["entrypoint"].replace("/etc/nullspace/config.yaml", str(config))
    command = command.replace("/shared/runs/first", str(workdir))
    assert command.count(str(config)) == command.count(str(workdir)) == 1, command
    return command, yaml.safe_load(job["runtimeEnvYAML"])


def test_the_manifests_job_runs_and_ends_well_when_it_is_stopped(head: Head, killed: Killed, tmp_path: Path) -> None:
    long = ["demo", *sets(TINY | {"search.steps": "[100000,100000]", "search.report_every": "50"})]
    config, output = tmp_path / "config.yaml", tmp_path / "output"
    config.write_text(nullspace("config", "show", *long).out, encoding="utf-8")
    command, runtime_env = job_of_the_manifest(config, killed.workdir)
    order = make_order(str(config), None, workdir=str(killed.workdir))
    job_id = JobServer(head.address).client.submit_job(
        entrypoint=command, runtime_env=runtime_env, submission_id="nullspace-manifest", metadata=order.metadata()
    )
    waiting = submit_here(head, output, str(config), "--workdir", str(killed.workdir))
    try:
        wait_until(lambda: "running  search" in output.read_text(), "the search begins", process=waiting, output=output)
        assert f"{job_id} already runs this" in output.read_text()
        assert "reused   reference" in output.read_text()
        assert nullspace("status", str(killed.workdir)).out.startswith("demo: running")
        stopped = nullspace("stop", job_id, "--address", head.address)
        assert stopped.code == 0 and f"{job_id} stopped" in stopped.out
        assert end_of(waiting, "the waiting ends", output=output) == 130
        assert "stopped      nullspace-manifest, exit code 130" in output.read_text()
    finally:
        waiting.kill()
    assert {run.info.status for run in runs_of(killed.workdir)} == {"FINISHED", "KILLED"}
    assert status(killed.workdir)["state"] == "killed"
    assert "was over already" in nullspace("stop", job_id, "--address", head.address).out


def test_a_job_runs_on_without_whoever_submitted_it(head: Head, tmp_path: Path) -> None:
    order, output = ["demo", "--workdir", f"{tmp_path}/work"], tmp_path / "output"
    answer = nullspace("submit", *order, "--no-wait", "--address", head.address)
    assert answer.code == 0, answer.err
    (job_id,) = [line.split()[1] for line in answer.out.splitlines() if line.startswith("submitted ")]
    assert f"nullspace logs {job_id} --follow --address {head.address}" in answer.out
    waiting = submit_here(head, output, *order)  # the same again joins it
    try:
        wait_until(lambda: "Running entrypoint" in output.read_text(), "the log comes", process=waiting, output=output)
        waiting.send_signal(signal.SIGINT)
        assert end_of(waiting, "the waiting ends", output=output) == 130
    finally:
        waiting.kill()
    assert f"{job_id} continues" in output.read_text() and f"nullspace stop {job_id}" in output.read_text()
    assert "Traceback" not in output.read_text()
    assert not JobServer(head.address).job(job_id).is_over
    assert nullspace("stop", job_id, "--address", head.address).code == 0
    assert "Running entrypoint" in nullspace("logs", job_id, "--address", head.address).out
