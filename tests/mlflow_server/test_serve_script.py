"""mlflow/serve.sh starts a server on its defaults, keeps to loopback, and takes its settings without leaking them."""

from __future__ import annotations

import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.mlflow_server.programs import REPOSITORY, clean_environment
from tests.mlflow_server.server import Server, status_of
from tests.waiting import run

SCRIPT = REPOSITORY / "mlflow" / "serve.sh"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On its defaults: SQLite, no login."""
    with Server(tmp_path_factory.mktemp("server"), {}) as server:
        yield server


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
    assert status_of(url, host.format(port=server.port)) == status


def test_a_stop_signal_ends_it_and_leaves_no_process(server: Server) -> None:
    code = server.stop()  # fails when processes of the server are left running
    assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), server.log.read_text()[-3000:]
    assert status_of(f"{server.url}/health") == 0


# ---- what it would start -----------------------------------------------------------------------------------------


def command_of(folder: Path, *arguments: str, **variables: str) -> str:
    """Arguments and MLflow's variables of the server it would run, seen through a stand-in in a copy of the folder."""
    (folder / "mlflow").mkdir(exist_ok=True)
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    script, stand_in = folder / "mlflow" / "serve.sh", folder / ".venv" / "bin" / "mlflow"
    script.write_bytes(SCRIPT.read_bytes())
    stand_in.write_text('#!/bin/sh\necho "ARGUMENTS $@"\nenv | grep ^MLFLOW_\n')
    stand_in.chmod(0o755)
    command, own = ["bash", str(script), *arguments], clean_environment(**variables)
    done = run(command, env=own)
    return done.stdout + done.stderr


def test_defaults_keep_to_loopback_and_to_the_repository(tmp_path: Path) -> None:
    printed = command_of(tmp_path, "--dev")
    data = (tmp_path / "runs" / "mlflow-server").resolve()
    assert "ARGUMENTS server --host 127.0.0.1 --port 5000 --workers 2 " in printed
    assert "--allowed-hosts 127.0.0.1,127.0.0.1:5000,localhost,localhost:5000 --dev\n" in printed
    assert f"MLFLOW_BACKEND_STORE_URI=sqlite:///{data}/mlflow.db\n" in printed
    assert f"MLFLOW_ARTIFACTS_DESTINATION={data}/artifacts\n" in printed
    assert "basic-auth" not in printed and "warning" not in printed


def test_the_settings_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    store = "postgresql://u:p@db/x?sslmode=require"
    lines = [
        "# a comment",
        f"MLFLOW_BACKEND_STORE_URI={store}",
        "MLFLOW_PORT=1",
        "MLFLOW_WORKERS=$(touch ran)",
        "bad key=1",
    ]
    (tmp_path / "mlflow" / ".env").write_text("\n".join(lines))
    printed = command_of(tmp_path, MLFLOW_PORT="7000")
    (arguments,) = [line for line in printed.splitlines() if line.startswith("ARGUMENTS")]
    assert f"MLFLOW_BACKEND_STORE_URI={store}\n" in printed
    assert "u:p" not in arguments, "a password would be seen in ps"
    assert "--port 7000 --workers $(touch ran)" in arguments


def test_listening_beyond_loopback_needs_the_names_of_the_server(tmp_path: Path) -> None:
    refused = command_of(tmp_path, MLFLOW_HOST="0.0.0.0")
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in refused
    assert "ARGUMENTS" not in refused
    named = command_of(tmp_path, MLFLOW_HOST="0.0.0.0", MLFLOW_SERVER_ALLOWED_HOSTS="a.example,b")
    assert "warning: whoever reaches 0.0.0.0:5000 may read and change everything" in named
    assert "--host 0.0.0.0" in named
    assert "--allowed-hosts a.example,a.example:5000,b,b:5000" in named


def test_a_login_is_kept_in_a_database_and_its_key_is_made_once(tmp_path: Path) -> None:
    uri = "postgresql+psycopg://u:50%25@db/logins"
    first = command_of(tmp_path, MLFLOW_LOGIN="true", MLFLOW_AUTH_DATABASE_URI=uri)
    assert "--app-name basic-auth" in first
    data = tmp_path / "runs" / "mlflow-server"
    assert f"database_uri = {uri.replace('%', '%%')}\n" in (data / "auth.ini").read_text()
    assert {stat.S_IMODE((data / name).stat().st_mode) for name in ("auth.ini", "secret-key")} == {0o600}
    key = (data / "secret-key").read_text().strip()
    assert len(key) >= 40 and f"MLFLOW_FLASK_SERVER_SECRET_KEY={key}\n" in first
    again = command_of(tmp_path, MLFLOW_LOGIN="true")
    assert f"MLFLOW_FLASK_SERVER_SECRET_KEY={key}\n" in again
    assert f"database_uri = sqlite:///{data.resolve()}/auth.db\n" in (data / "auth.ini").read_text()


def test_a_login_neither_on_nor_off_is_refused(tmp_path: Path) -> None:
    printed = command_of(tmp_path, MLFLOW_LOGIN="yes")
    assert "expected MLFLOW_LOGIN to be true or false, got 'yes'" in printed and "ARGUMENTS" not in printed


def test_the_example_settings_are_ones_that_something_reads(tmp_path: Path) -> None:
    example = (REPOSITORY / "mlflow" / ".env.example").read_text()
    names = set(re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE))
    readers = SCRIPT.read_text() + (REPOSITORY / "mlflow" / "compose.yaml").read_text()
    libraries = {"PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD"}  # read by libpq and by MLflow themselves
    assert names > libraries
    assert sorted(name for name in names - libraries if name not in readers) == []
