"""`nullspace ui` shows a run in MLflow's own pages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nullspace.errors import NullspaceError
from pipelines import workfolder
from pipelines.errors import WorkdirError
from pipelines.ray_start import free_ports
from pipelines.ui import run_page, serve
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import NULLSPACE, environment
from tests.waiting import LIMIT, wait_until


def get(url: str) -> bytes:
    """Body of a page; empty while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as page:
            return page.read()
    except (urllib.error.URLError, ConnectionError):
        return b""


def test_ui_serves_the_experiment_of_the_run(demo_run: DemoRun) -> None:
    (port,) = free_ports(1)
    command = [str(NULLSPACE), "ui", str(demo_run.work), "--port", str(port)]
    shown = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=environment()
    )
    try:
        page = wait_until(lambda: get(f"http://127.0.0.1:{port}/"), "MLflow answers", process=shown, pause=0.5)
        asked = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=demo"
        experiment = json.loads(get(asked))["experiment"]
    finally:
        os.killpg(shown.pid, signal.SIGTERM)
        said = shown.communicate(timeout=LIMIT)[0].decode()
    assert b"<html" in page.lower()
    assert experiment["name"] == "demo"
    assert experiment["lifecycle_stage"] == "active"
    run_id = demo_run.results["run"]["run_id"]
    page_of_run = f"/#/experiments/{experiment['experiment_id']}/runs/{run_id}?workflowType=machine_learning"
    assert f"MLflow on http://127.0.0.1:{port}{page_of_run} " in said


def test_ui_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="run one first"):
        serve(tmp_path, "127.0.0.1", 1)


def test_ui_of_a_run_on_a_server_names_its_page(tmp_path: Path) -> None:
    workfolder.say_run(tmp_path, tracking_uri="http://tracker:5000/", experiment_id="3", run_id="7")
    page = "http://tracker:5000/#/experiments/3/runs/7?workflowType=machine_learning"
    with pytest.raises(NullspaceError, match=f"shows it itself: {re.escape(page)}$"):
        serve(tmp_path, "127.0.0.1", 1)


def test_ui_of_a_run_in_another_database_says_what_to_do(tmp_path: Path) -> None:
    workfolder.say_run(tmp_path, tracking_uri="postgresql://***@host/db", experiment_id="3", run_id="7")
    with pytest.raises(NullspaceError, match="got postgresql://.*run `mlflow server` on it"):
        serve(tmp_path, "127.0.0.1", 1)


def test_page_of_a_run_whose_experiment_is_not_known() -> None:
    assert run_page("http://host:1", {"run_id": "7"}) == "http://host:1/#/experiments?workflowType=machine_learning"
