"""mlflow/serve.sh as its users start it: a process of its own, stopped politely or killed, started again in place."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from pipelines.engine.machines.ray_start import free_ports
from tests.mlflow_server.programs import REPOSITORY, clean_environment
from tests.waiting import LIMIT, end_of, wait_until


class Server:
    """A tracking server in a folder of its own. Use as a context manager."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self.data, self.log = folder, folder / "data", folder / "server.log"
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"MLFLOW_DATA": str(self.data), "MLFLOW_PORT": str(self.port), "MLFLOW_WORKERS": "1"}
        self._environment = clean_environment(**own | dict(settings))
        self.process: subprocess.Popen[bytes] | None = None

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
        wait_until(self._answers, "the server answers", process=self.process, output=self.log, pause=0.2)

    def kill(self) -> None:
        """kill -9 of every process of it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        """SIGTERM to the one process started, as a supervisor does; its exit status, once all its children ended."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = end_of(self.process, "the server ends", output=self.log)
            wait_until(self._is_gone, "its children end with it", output=self.log, pause=0.1)
            return code
        finally:
            self.kill()

    def _answers(self) -> bool:
        return status_of(f"{self.url}/health") == 200

    def _is_gone(self) -> bool:
        assert self.process is not None
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def status_of(url: str, host: str | None = None) -> int:
    """The HTTP status of GET `url`; 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=LIMIT) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
