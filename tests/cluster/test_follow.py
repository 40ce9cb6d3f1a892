"""Following logs and retrying, on a stand-in for Ray's job server with given exit codes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cluster import follow as following
from cluster.errors import JobError
from cluster.follow import Log, follow, follow_and_retry
from cluster.jobs import Job, JobServer, Unreachable, choose_address, next_id, token_header
from cluster.order import Order
from cluster.upload import Upload

JOB = Job("nullspace-demo-1", "RUNNING", None, "", 1.0, None, "/shared/runs/demo", "1")
ORDER = Order("nullspace-demo-1", "1", "/shared/runs/demo", "exec nullspace run", {}, Upload({}), {})


@dataclass
class Client:
    """Ray's client: every attempt to read the log gives the next of these pieces, or fails."""

    logs: list[list[str | Exception]]

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for piece in self.logs.pop(0) if self.logs else []:
            if isinstance(piece, Exception):
                raise piece
            yield piece


@dataclass
class Server:
    """A job server whose jobs end, one after the other, as listed."""

    ends: list[Job | Exception]
    client: Client = field(default_factory=lambda: Client([]))
    submitted: int = 0

    def job(self, job_id: str) -> Job:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return replace(end, id=job_id)

    def submit(self, order: Order) -> Job:
        self.submitted += 1
        return replace(JOB, id=f"{order.name}-{self.submitted + 1}")


def ended(state: str, exit_code: int | None = None) -> Job:
    return replace(JOB, state=state, exit_code=exit_code)


def real(server: Server) -> JobServer:
    return cast(Any, server)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PAUSE_S", 0)


def test_every_line_is_shown_once_also_when_the_connection_breaks() -> None:
    logs: list[list[str | Exception]] = [
        ["one\ntw", RuntimeError("closed with code 1006")],
        ["one\n", "two\nthr", ConnectionResetError()],
        ["one\ntwo\nthree\nfour"],
    ]
    server = Server([JOB, JOB, ended("SUCCEEDED", 0)], Client(logs))
    shown: list[str] = []
    assert follow(real(server), JOB.id, Log(shown.append)).code == 0
    assert shown == ["one", "two", "three", "four"]


def test_the_address_of_the_run_in_mlflow_is_kept() -> None:
    log = Log(lambda line: None)
    log.add("running  ingest\nmlflow http://mlflow:5000/#/experiments/1/runs/2\nmlflowish\ndone\n")
    assert log.mlflow == "mlflow http://mlflow:5000/#/experiments/1/runs/2"


def test_a_head_that_is_away_for_a_moment_is_waited_for() -> None:
    server = Server([Unreachable("away"), Unreachable("away"), ended("SUCCEEDED", 0)], Client([[], [], ["end\n"]]))
    assert follow(real(server), JOB.id, Log(lambda line: None)).state == "SUCCEEDED"


def test_a_head_that_stays_away_is_an_error_that_names_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", -1)
    with pytest.raises(JobError, match=f"lost contact with {JOB.id}, which may still run: away"):
        follow(real(Server([Unreachable("away")])), JOB.id, Log(lambda line: None))


def test_a_log_that_is_gone_does_not_keep_a_job_open() -> None:
    gone: list[list[str | Exception]] = [[RuntimeError("no node")] for _ in range(9)]
    assert follow(real(Server([ended("FAILED")] * 9, Client(gone))), JOB.id, Log(lambda line: None)).code == 70


@pytest.mark.parametrize(
    ("ends", "submitted", "code"),
    [
        ([ended("SUCCEEDED", 0)], 0, 0),
        ([ended("FAILED", -9), ended("SUCCEEDED", 0)], 1, 0),
        ([ended("FAILED", None), ended("FAILED", 137), ended("SUCCEEDED", 0)], 2, 0),
        ([ended("FAILED", 70), ended("FAILED", 130), ended("FAILED", -9)], 2, 137),
        ([ended("FAILED", 1)], 0, 1),
        ([ended("FAILED", 2)], 0, 2),
        ([ended("FAILED", 127)], 0, 127),
        ([ended("FAILED", -9), ended("FAILED", 1)], 1, 1),
        ([ended("STOPPED")], 0, 130),
    ],
    ids=[
        "good",
        "killed once",
        "twice",
        "three times",
        "bad input",
        "usage",
        "no command",
        "then bad input",
        "stopped",
    ],
)
def test_what_is_tried_again(ends: list[Job | Exception], submitted: int, code: int) -> None:
    server, printed = Server(ends), list[str]()
    *_, last = follow_and_retry(real(server), ORDER, JOB, 2, say=printed.append, log=Log(lambda line: None))
    assert (server.submitted, last.code) == (submitted, code)
    assert len([line for line in printed if "resumes in /shared/runs/demo" in line]) == submitted
    assert last.id == (f"{ORDER.name}-{submitted + 1}" if submitted else JOB.id)


def test_ids_are_never_used_twice() -> None:
    name = "nullspace-demo-1a2b"
    assert next_id(name, []) == name
    assert next_id(name, ["nullspace-other-1", name]) == f"{name}-2"
    assert next_id(name, [f"{name}-3", name, f"{name}-x", f"{name}c"]) == f"{name}-4"


def test_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert choose_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # where `nullspace run` works: no dashboard
    assert choose_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265/")
    assert choose_address(None) == "http://head:8265"
    assert choose_address("https://other") == "https://other"
    with pytest.raises(JobError, match="expected the address of Ray's dashboard, http://HOST:8265, got 'head:6379'"):
        choose_address("head:6379")


def test_an_address_that_does_not_answer() -> None:
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9;.*ssh -L 8265:127\.0\.0\.1:8265 HEAD"):
        JobServer("http://127.0.0.1:9")


def test_the_token_is_found_where_ray_keeps_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_header() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    assert token_header() == {"Authorization": "Bearer home"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "set")
    assert token_header() == {"Authorization": "Bearer set"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert token_header() is None
