"""cluster/start-node.sh builds the right `ray start` command. Nothing is started: `ray stop` would end every Ray."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.waiting import run

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "start-node.sh"


def _run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return run(["bash", str(SCRIPT), *arguments], env=clean | env)


@pytest.mark.parametrize(
    ("arguments", "env", "command"),
    [
        (["head"], {}, "ray start --head --port 6379 --dashboard-host 127.0.0.1 --disable-usage-stats"),
        (
            ["head", "--num-gpus", "2"],
            {"RAY_PORT": "7000"},
            "ray start --head --port 7000 --dashboard-host 127.0.0.1 --disable-usage-stats --num-gpus 2",
        ),
        (["worker", "gpu1.lan:6379"], {}, "ray start --address gpu1.lan:6379 --disable-usage-stats"),
        (
            ["worker", "10.0.0.1:6379", "--block"],
            {"RAY_NODE_IP": "10.0.0.2"},
            "ray start --address 10.0.0.1:6379 --node-ip-address 10.0.0.2 --disable-usage-stats --block",
        ),
    ],
    ids=["head", "head on a port", "worker", "worker with an address of its own"],
)
def test_the_command(arguments: list[str], env: dict[str, str], command: str) -> None:
    done = _run("--dry-run", *arguments, **env)
    assert (done.returncode, done.stdout.strip()) == (0, command), done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected head or worker, got ''"),
        (["boss"], "expected head or worker, got 'boss'"),
        (["worker"], "expected HOST:PORT of the head after worker, got ''"),
        (["worker", "gpu1"], "expected HOST:PORT of the head after worker, got 'gpu1'"),
        (["worker", "--block"], "expected HOST:PORT of the head after worker, got '--block'"),
    ],
    ids=["nothing", "unknown role", "no address", "no port", "flag for an address"],
)
def test_mistakes_are_explained(arguments: list[str], message: str) -> None:
    done = _run("--dry-run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "usage: start-node.sh" in done.stderr


def test_ray_knows_every_flag_that_is_passed() -> None:
    from ray.scripts.scripts import start

    known = {name for option in start.params for name in option.opts}
    assert {"--head", "--port", "--dashboard-host", "--address", "--node-ip-address", "--disable-usage-stats"} <= known
