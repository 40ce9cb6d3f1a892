"""MLflow's own pages for the results of a work folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nullspace.errors import NullspaceError
from pipelines.engine.interrupts import interrupted_by
from pipelines.errors import WorkdirError
from pipelines.tracking.connection.addresses import MODE, run_page
from pipelines.tracking.connection.store import is_server
from pipelines.tracking.connection.views import VIEW
from pipelines.workflow import workfolder

_GRACE_SECONDS = 10


def serve(workdir: Path, host: str, port: int) -> int:
    """Run `mlflow ui` on the store of a work folder until it is stopped; returns its exit code."""
    run = workfolder.read_run(workdir)
    if run is None:
        raise WorkdirError(f"{workdir} has no run to show; run one first, e.g. nullspace run demo")
    uri = run["tracking_uri"]
    if is_server(uri):
        raise NullspaceError(f"this run is tracked by a server, which shows it itself: {run_page(uri, run)}")
    if not uri.startswith("sqlite:"):
        raise NullspaceError(f"expected a run tracked in SQLite or by a server, got {uri}; run `mlflow server` on it")
    print(f"MLflow on {run_page(f'http://{host}:{port}', run)} (Ctrl-C ends it)", flush=True)
    if "experiment_id" in run:
        print(f"Models side by side: {models_page(f'http://{host}:{port}', run)}", flush=True)
    print("Its links may lead to pages for GenAI; 'Model training' at the top left, chosen once, stays.", flush=True)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host]
    return _until_stopped([*command, "--port", str(port), "--workers", "1"])


def _until_stopped(command: list[str]) -> int:
    """Run a program until it ends; Ctrl-C, SIGTERM or a closed terminal ends it and all its child processes."""
    # MLflow's job runners serve evaluations of chat models: seven more processes, in sessions of their own.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = None
    try:
        with interrupted_by(signal.SIGTERM, signal.SIGHUP):
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if process is not None:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: by SIGTERM, and after some seconds by SIGKILL."""
    until = time.monotonic() + _GRACE_SECONDS
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # no process of the group is left
            os.killpg(process.pid, signal_)
            while signal_ == signal.SIGTERM and time.monotonic() < until:
                process.poll()  # reaps the leader, which as a zombie would still count as the group
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    process.wait()


def models_page(server: str, run: Mapping[str, Any]) -> str:
    """Address of the table with a row for each model of the run's experiment."""
    return f"{server.rstrip('/')}/#/experiments/{run['experiment_id']}/runs?viewStateShareKey={VIEW}&{MODE}"
