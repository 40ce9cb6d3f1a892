"""mlflow/serve.sh as its users start it: a process of its own, stopped politely or killed, started again in place."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.mlflow_server.programs import REPOSITORY, clean_environment, free_port

START_SECONDS, STOP_SECONDS = 180, 20


class Server:
    """A tracking server in a folder of its own. Use as a context manager."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self.data, self.log = folder, folder / "data", folder / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"MLFLOW_DATA": str(self.data), "MLFLOW_PORT": str(self.port), "MLFLOW_WORKERS": "1"}
        self._environment = clean_environment(**own | dict(settings))
        self.process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0  # what the last start took

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(REPOSITORY / "mlflow" / "serve.sh")],
                env=self._environment,
                cwd=self.folder,
                stdout=out,
                stderr=out,
                start_new_session=True,  # its whole tree is one process group
            )
        began = time.monotonic()
        while status_of(f"{self.url}/health") != 200:
            late = time.monotonic() > began + START_SECONDS
            if late or self.process.poll() is not None:
                pytest.fail(f"no server after {START_SECONDS} s" * late + f"\n{self.log.read_text()[-3000:]}")
            time.sleep(0.2)
        self.start_seconds = time.monotonic() - began

    def kill(self) -> None:
        """kill -9 of every process of it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> tuple[int, bool]:
        """SIGTERM to the one process started, as a supervisor does: its exit status, whether all its children ended."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS), _group_is_gone(self.process.pid, 5)
        finally:
            self.kill()


def status_of(url: str, host: str | None = None) -> int:
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


def _group_is_gone(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
