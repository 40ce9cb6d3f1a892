"""A private PostgreSQL on loopback, with a password, gone when the tests are."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from pipelines.engine.machines.ray_start import free_ports
from tests.mlflow_server.programs import need
from tests.waiting import wait_until

USER = "mlflow"
# Nothing here outlives the tests, so nothing has to survive a power cut.
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "synchronous_commit=off")


@dataclass(frozen=True)
class Postgres:
    """A running server: where, and the password of its one user."""

    port: int
    password: str

    def uri(self, database: str) -> str:
        """SQLAlchemy address without the password, which goes by PGPASSWORD."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database, autocommit=True
        )

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres(*databases: str) -> Iterator[Postgres]:
    """Start a server with these empty databases."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb, server = (need(name, "postgresql", *folders) for name in ("initdb", "postgres"))
    # Not pytest's folder: PostgreSQL refuses to run as root, and another user may not enter that one.
    folder, password = Path(tempfile.mkdtemp(prefix="nullspace-postgres-")), secrets.token_urlsafe(16)
    (port,) = free_ports(1)
    running = Postgres(port, password)
    _initialise(initdb, folder, password)
    options = [word for setting in SETTINGS for word in ("-c", setting)]
    command = [str(server), "-D", str(folder / "data"), "-p", str(running.port), *options]
    with (folder / "log").open("wb") as log:
        process: subprocess.Popen[Any] = subprocess.Popen(command, stdout=log, stderr=log, **_as_user())
    try:
        wait_until(running.answers, "PostgreSQL answers", process=process, output=folder / "log", pause=0.1)
        with running.connect() as connection:
            for name in databases:
                connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        yield running
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: its files are thrown away
        process.wait()
        shutil.rmtree(folder)


def _initialise(initdb: Path, folder: Path, password: str) -> None:
    file = folder / "password"
    file.write_text(password)
    if user := _as_user().get("user"):
        for path in (folder, file):
            shutil.chown(path, user)
    options = ["--username", USER, "--auth", "scram-sha-256", "--pwfile", str(file), "--no-sync"]
    command = [str(initdb), "-D", str(folder / "data"), *options, "--encoding", "UTF8", "--locale", "C"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, **_as_user())
    assert done.returncode == 0, done.stdout + done.stderr
    file.unlink()


def _as_user() -> dict[str, Any]:
    """Arguments of a process that must not be root's."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in known else "nobody")
    return {"user": entry.pw_name, "group": entry.pw_gid, "extra_groups": []}
