"""The commands without a cluster: --dry-run, mistakes, help."""

from __future__ import annotations

import json

import pytest

from cluster import cli, submitting
from tests.pipelines.driver import nullspace

WORK = ("--workdir", "/shared/runs/demo")


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")


def test_dry_run_shows_all_and_asks_no_server() -> None:
    answer = nullspace("submit", "demo", *WORK, "--set", "models.0.weights=/shared/w.pth", "--dry-run")
    assert answer.code == 0, answer.err
    shown = {line.split()[0]: line for line in answer.out.splitlines()}
    assert "nullspace-demo-" in shown["job"] and "exec nullspace run" in shown["entrypoint"]
    assert "nullspace-job.yaml" in shown["upload"] and "every node sees" in shown["workdir"]
    assert "models.0.weights /shared/w.pth" in shown["not"]


def test_dry_run_for_programs() -> None:
    shown = json.loads(nullspace("submit", "demo", *WORK, "--dry-run", "--json").out)
    assert shown["job"].startswith("nullspace-demo-") and shown["workdir"] == "/shared/runs/demo"
    assert [file["name"] for file in shown["upload"]["files"]] == ["nullspace-job.yaml"]
    assert shown["upload"]["bytes"] == shown["upload"]["files"][0]["bytes"] > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "demo"], "expected --workdir with an absolute path, got none"),
        (["submit", "demo", *WORK, "--json"], "--json belongs to --dry-run or --no-wait"),
        (["submit", "demo", *WORK, "--dry-run", "--upload-limit", "0.0001"], "the limit is 0.0001 MiB"),
        (["submit", "nowhere", *WORK], "no config at nowhere"),
        (["submit", "demo", *WORK], "no Ray job server answers at http://127.0.0.1:9"),
        (["jobs"], "no Ray job server answers"),
        (["logs", "nullspace-demo-1"], "no Ray job server answers"),
        (["stop", "nullspace-demo-1", "--address", "head:6379"], "got 'head:6379'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    answer = nullspace(*words)
    assert answer.is_one_error and message in answer.err


@pytest.mark.parametrize("command", ["submit", "jobs", "logs", "stop"])
def test_help_has_an_example(command: str) -> None:
    assert f"nullspace {command}" in nullspace(command, "--help").out.partition("Example:")[2]


def test_the_message_when_there_are_no_jobs() -> None:
    assert list(submitting.table([])) == ["no jobs of nullspace"]


def test_faults_and_bad_input_have_different_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(cli.submitting, "prepare", breaks)
    answer = nullspace("submit", "demo")
    assert answer.code == 70
    assert "Traceback" in answer.err and "a fault" in answer.err
