"""mlflow/serve.sh really starts a server, keeps to loopback, records a run with an artifact, and ends when told to."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

START_SECONDS, STOP_SECONDS = 90, 20


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    data: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(**changes: str) -> dict[str, str]:
    """This process's environment without MLflow settings of the machine the test runs on."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | changes


def _status(url: str, host: str | None = None) -> int:
    """The HTTP status of GET `url`; 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _status(f"{server.url}/health") != 200:
        late = time.monotonic() > deadline
        if late or server.process.poll() is not None:
            pytest.fail(f"no server after {START_SECONDS} s" * late + f"\n{server.log.read_text()[-3000:]}")
        time.sleep(0.3)


def _group_is_gone(group: int, seconds: float) -> bool:
    """Whether every process of the group ends within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def _stop(server: Server) -> tuple[int, bool]:
    """SIGTERM to the one process started, as a supervisor does: its exit status, and whether all its children ended."""
    server.process.send_signal(signal.SIGTERM)
    try:
        return server.process.wait(STOP_SECONDS), _group_is_gone(server.process.pid, 5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    port, log = _free_port(), folder / "log"
    env = _environment(MLFLOW_DATA=str(folder / "data"), MLFLOW_PORT=str(port), MLFLOW_WORKERS="1")
    with log.open("wb") as out:
        command = [str(repository / "mlflow" / "serve.sh")]
        process = subprocess.Popen(command, env=env, cwd=repository, stdout=out, stderr=out, start_new_session=True)
    running = Server(process, port, folder / "data", log)
    try:
        _wait_until_up(running)
        yield running
    finally:
        if process.poll() is None:
            _stop(running)


def test_a_run_with_an_artifact_is_recorded(server: Server, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri=server.url, registry_uri=server.url)
    run_id = client.create_run(client.create_experiment("served")).info.run_id
    client.log_metric(run_id, "loss", 0.5, step=3)
    client.log_text(run_id, "words", "note.txt")
    client.set_terminated(run_id)
    assert client.get_run(run_id).data.metrics == {"loss": 0.5}
    assert client.get_run(run_id).info.status == "FINISHED"
    assert Path(client.download_artifacts(run_id, "note.txt", str(tmp_path))).read_text() == "words"
    assert (server.data / "mlflow.db").is_file()
    assert list((server.data / "artifacts").rglob("note.txt"))


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("127.0.0.1:{port}", 200), ("evil.example", 403)])
def test_only_listed_host_names_are_answered(server: Server, host: str, status: int) -> None:
    url = f"{server.url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert _status(url, host.format(port=server.port)) == status


def test_it_stops_when_told_to_and_leaves_no_process(server: Server) -> None:
    code, all_ended = _stop(server)
    assert all_ended, "processes of the server were left running"
    assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), server.log.read_text()[-3000:]
    assert _status(f"{server.url}/health") == 0


def _command_line(repository: Path, folder: Path, **env: str) -> str:
    """What serve.sh would run, seen through a stand-in for `mlflow` in a copy of the folder."""
    (folder / "mlflow").mkdir(exist_ok=True)
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    script = folder / "mlflow" / "serve.sh"
    script.write_bytes((repository / "mlflow" / "serve.sh").read_bytes())
    fake = folder / ".venv" / "bin" / "mlflow"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", str(script), "--dev"], env=_environment(**env), capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


def test_defaults_keep_to_loopback_and_to_the_repository(repository: Path, tmp_path: Path) -> None:
    line = _command_line(repository, tmp_path)
    data = (tmp_path / "runs" / "mlflow-server").resolve()
    assert f"--backend-store-uri sqlite:///{data}/mlflow.db --artifacts-destination {data}/artifacts" in line
    assert "--host 127.0.0.1 --port 5000" in line
    assert "--allowed-hosts 127.0.0.1,127.0.0.1:5000,localhost,localhost:5000 --dev" in line


def test_the_settings_file_is_read_and_the_environment_wins(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    store = "postgresql://u@db/x?sslmode=require"
    lines = [
        "# a comment",
        f"MLFLOW_BACKEND_STORE_URI={store}",
        "MLFLOW_PORT=1",
        "MLFLOW_WORKERS=$(touch ran)",
        "bad key=1",
    ]
    (tmp_path / "mlflow" / ".env").write_text("\n".join(lines))
    line = _command_line(repository, tmp_path, MLFLOW_PORT="7000")
    assert f"--backend-store-uri {store}" in line
    assert "--port 7000 --workers $(touch ran)" in line


def test_listening_beyond_loopback_needs_the_names_of_the_server(repository: Path, tmp_path: Path) -> None:
    refused = _command_line(repository, tmp_path, MLFLOW_HOST="0.0.0.0")
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in refused
    assert "--host" not in refused
    named = _command_line(repository, tmp_path, MLFLOW_HOST="0.0.0.0", MLFLOW_SERVER_ALLOWED_HOSTS="a.example,b")
    assert "--host 0.0.0.0" in named
    assert "--allowed-hosts a.example,a.example:5000,b,b:5000" in named


def test_the_example_settings_are_ones_the_script_knows(repository: Path) -> None:
    names = re.findall(r"^#?([A-Z_]+)=", (repository / "mlflow" / ".env.example").read_text(), re.MULTILINE)
    script = (repository / "mlflow" / "serve.sh").read_text()
    assert names
    assert [name for name in names if name not in script] == []
