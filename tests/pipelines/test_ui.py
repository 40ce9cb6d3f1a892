"""`nullspace ui` shows a run in MLflow's own pages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from pipelines.errors import WorkdirError
from pipelines.ui import serve
from tests.pipelines.conftest import DemoRun
from tests.pipelines.driver import NULLSPACE, environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str, seconds: float) -> bytes:
    """Body of a page, asked for until it answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as page:
                return page.read()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"{url} did not answer within {seconds:g} s"
            time.sleep(0.5)


def test_ui_serves_the_experiment_of_the_run(demo_run: DemoRun) -> None:
    port = free_port()
    command = [str(NULLSPACE), "ui", str(demo_run.work), "--port", str(port)]
    shown = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=environment()
    )
    try:
        page = get(f"http://127.0.0.1:{port}/", 120)
        asked = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=demo"
        experiment = json.loads(get(asked, 30))["experiment"]
    finally:
        os.killpg(shown.pid, signal.SIGTERM)
        shown.wait(timeout=30)
    assert b"<html" in page.lower()
    assert experiment["name"] == "demo"
    assert experiment["lifecycle_stage"] == "active"


def test_ui_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkdirError, match="run one first"):
        serve(tmp_path, "127.0.0.1", 1)
