"""MLflow's own pages on the results of a work folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nullspace.errors import NullspaceError
from pipelines import workfolder
from pipelines.errors import WorkdirError


def serve(work: Path, host: str, port: int) -> int:
    """Run `mlflow ui` on the store of a work folder until it is stopped; returns its exit code."""
    said = workfolder.read_run(work)
    if said is None:
        raise WorkdirError(f"{work} has no run to show; run one first, e.g. nullspace run demo")
    uri = said["tracking_uri"]
    if not uri.startswith("sqlite:"):
        raise NullspaceError(f"this run is tracked by a server, which shows it itself: {uri}")
    print(f"MLflow on http://{host}:{port}/#/experiments (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host]
    command += ["--port", str(port), "--workers", "1"]
    try:
        return subprocess.run(command, env=os.environ, check=False).returncode
    except KeyboardInterrupt:
        return 0
