"""`nullspace ui` shows a run in MLflow's own pages."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nullspace.errors import NullspaceError
from pipelines.commands import ui
from pipelines.commands.ui import serve
from pipelines.engine.machines.ray_start import free_ports
from pipelines.errors import WorkdirError
from pipelines.tracking.connection.addresses import run_page
from pipelines.workflow import workfolder
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import NULLSPACE, environment
from tests.waiting import LIMIT, is_alive, wait_until


def get(url: str) -> bytes:
    """Body of a page; empty while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as page:
            return page.read()
    except (urllib.error.URLError, ConnectionError):
        return b""


def below(pid: int) -> dict[int, str]:
    """Command lines of all living processes that descend from one, by their ids."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    above = {int(row[0]): int(row[1]) for row in rows}
    found = {}
    for own, _, state, *args in rows:
        ancestor = int(own)
        while ancestor > 1 and ancestor != pid:
            ancestor = above.get(ancestor, 0)
        if ancestor == pid and int(own) != pid and not state.startswith("Z"):
            found[int(own)] = " ".join(args)
    return found


def test_ui_serves_the_experiment_of_the_run_until_a_signal_ends_it(demo_run: DemoRun) -> None:
    (port,) = free_ports(1)
    command = [str(NULLSPACE), "ui", str(demo_run.workdir), "--port", str(port)]
    shown = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=environment()
    )
    started: dict[int, str] = {}
    try:
        page = wait_until(lambda: get(f"http://127.0.0.1:{port}/"), "MLflow answers", process=shown, pause=0.5)
        asked = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=demo"
        experiment = json.loads(get(asked))["experiment"]
        started = below(shown.pid)
    finally:
        shown.terminate()  # to this one process alone, as a supervisor does
        printed = shown.communicate(timeout=LIMIT)[0].decode()
        left = {pid: args for pid, args in started.items() if is_alive(pid)}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert shown.returncode == 0 and started and left == {}
    assert not [args for args in started.values() if "huey" in args or "mlflow.server.jobs" in args], started
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    assert b"<html" in page.lower()
    assert experiment["name"] == "demo"
    assert experiment["lifecycle_stage"] == "active"
    run_id = demo_run.results["run"]["run_id"]
    place = f"http://127.0.0.1:{port}/#/experiments/{experiment['experiment_id']}/runs"
    assert f"MLflow on {place}/{run_id}?workflowType=machine_learning " in printed
    assert f"{place}?viewStateShareKey=nullspace-models&workflowType=machine_learning" in printed
    assert "mlflow.sharedViewState.nullspace-models" in {tag["key"] for tag in experiment["tags"]}


def test_a_program_that_does_not_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ui, "_GRACE_SECONDS", 0.2)
    code = "import os, signal, time, pathlib\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += f"os.fork()\npathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
    code += f"while len(os.listdir({str(tmp_path)!r})) < 2: time.sleep(0.01)\n"
    code += "os.getpid() == os.getpgrp() and os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    assert ui._until_stopped([sys.executable, "-c", code]) == 0
    stubborn = [int(file.name) for file in tmp_path.iterdir()]
    assert len(stubborn) == 2
    wait_until(lambda: not any(map(is_alive, stubborn)), "init reaps the orphans")


def test_ui_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="run one first"):
        serve(tmp_path, "127.0.0.1", 1)


def test_ui_of_a_run_on_a_server_names_its_page(tmp_path: Path) -> None:
    workfolder.update_run(tmp_path, tracking_uri="http://tracker:5000/", experiment_id="3", run_id="7")
    page = "http://tracker:5000/#/experiments/3/runs/7?workflowType=machine_learning"
    with pytest.raises(NullspaceError, match=f"shows it itself: {re.escape(page)}$"):
        serve(tmp_path, "127.0.0.1", 1)


def test_ui_of_a_run_in_another_database_says_what_to_do(tmp_path: Path) -> None:
    workfolder.update_run(tmp_path, tracking_uri="postgresql://***@host/db", experiment_id="3", run_id="7")
    with pytest.raises(NullspaceError, match="got postgresql://.*run `mlflow server` on it"):
        serve(tmp_path, "127.0.0.1", 1)


def test_page_of_a_run_whose_experiment_is_not_known() -> None:
    assert run_page("http://host:1", {"run_id": "7"}) == "http://host:1/#/experiments?workflowType=machine_learning"
