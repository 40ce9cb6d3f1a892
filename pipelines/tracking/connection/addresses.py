"""Where people find a run: the address of its page in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.redact import redact
from pipelines.tracking.connection.store import is_server

# MLflow opens every page in its mode for chat models unless the address, or a choice kept by the browser, says other.
MODE = "workflowType=machine_learning"


def run_page(server: str, said: Mapping[str, Any]) -> str:
    """Address of the page of a run, from what run.json says of it; of the list of experiments where it says less."""
    place = "experiments"
    if "experiment_id" in said:
        place += f"/{said['experiment_id']}/runs/{said['run_id']}"
    return f"{server.rstrip('/')}/#/{place}?{MODE}"


def run_address(uri: str, workdir: Path, experiment_id: str, run_id: str) -> str:
    """Where people find a run: its page on a server, else the store's URI and the command that shows it."""
    if is_server(uri):
        return run_page(redact(uri), {"experiment_id": experiment_id, "run_id": run_id})
    return f"{redact(uri)}  (nullspace ui {workdir} shows it)"
