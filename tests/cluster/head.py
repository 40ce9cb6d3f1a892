"""A real Ray head with a dashboard: ports, folder and token of its own, and only its own processes end with it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from pipelines.engine.machines.ray_start import LIMITS, free_ports
from tests.pipelines.driver import environment
from tests.waiting import LIMIT, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENT = Path(__file__).with_name("patient")  # what Python does first there makes `ray start` wait
_PORTS = ("dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "ray-client-server-port")


class Head:
    """Use as a context manager. What it started, and nothing else, is gone afterwards."""

    def __init__(self) -> None:
        # Short: Ray puts sockets below it, whose paths hold 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="ns", dir="/tmp"))
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        gcs, *ports = free_ports(1 + len(_PORTS))
        self.address = f"http://127.0.0.1:{ports[0]}"
        self.env = environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        flags = [word for name, port in zip(_PORTS, ports, strict=True) for word in (f"--{name}", str(port))]
        flags += ["--temp-dir", str(self.folder / "ray"), "--num-cpus", "2", "--object-store-memory", "150000000"]
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", str(REPOSITORY / "cluster" / "start-node.sh"), "head", *flags, "--block"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # The jobs of this head run the code beside these tests, wherever nullspace was installed from.
                env={name: str(value) for name, value in LIMITS.items()}
                | self.env
                | {"RAY_PORT": str(gcs), "RAY_NODE_IP": "127.0.0.1", "PYTHONPATH": f"{_PATIENT}:{REPOSITORY}"},
            )

    def __enter__(self) -> Head:
        try:
            what = "Ray's dashboard answers"
            wait_until(self._answers, what, process=self.process, output=self.folder / "output", pause=0.2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in processes():  # its daemons and workers stay in the session it was started in
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.address}/api/version")
        request.add_header("Authorization", f"Bearer {(self.folder / 'token').read_text()}")
        try:
            return urllib.request.urlopen(request, timeout=LIMIT).status == 200
        except OSError:
            return False


def processes(*words: str) -> list[int]:
    """Processes whose command line holds all the words."""
    found = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in found.stdout.splitlines()]
    mine = (os.getpid(), os.getppid())
    return [
        int(pid)
        for pid, state, args in rows
        if not state.startswith("Z") and int(pid) not in mine and all(word in args for word in words)
    ]


def submit_here(head: Head, out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`nullspace submit …` as a process of its own, writing to the file `out`."""
    command = [str(Path(sys.executable).with_name("nullspace")), "submit", *arguments, "--address", head.address]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores Ctrl-C
    with out.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=head.env | {"PYTHONPATH": str(REPOSITORY)},
        )
