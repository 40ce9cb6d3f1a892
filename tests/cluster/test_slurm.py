"""cluster/slurm.sh with stand-ins for Slurm, Ray and nullspace, which write down how they are called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.engine.machines.ray_start import free_ports
from tests.cluster.head import REPOSITORY
from tests.waiting import LONGER, end_of, run, wait_until

SCRIPT = REPOSITORY / "cluster" / "slurm.sh"
SCRIPTS = [SCRIPT, REPOSITORY / "cluster" / "start-node.sh"]

SRUN = """echo "srun $*" >>"$CALLS"
while [[ $1 != */start-node.sh ]]; do shift; done
exec "$@"
"""
SCONTROL = """if [[ $1 == show ]]; then printf '%s\\n' localhost node2 node3; else echo "scontrol $*" >>"$CALLS"; fi
"""
START_NODE = f"""echo "start-node $1 token=${{#RAY_AUTH_TOKEN}} mode=$RAY_AUTH_MODE" >>"$CALLS"
if [[ $1 == head ]]; then exec {sys.executable} -m http.server "$RAY_PORT" --bind localhost >/dev/null 2>&1; fi
exec sleep {LONGER}
"""
NULLSPACE = """echo "nullspace $*" >>"$CALLS"
trap 'echo "nullspace was stopped" >>"$CALLS"; sleep 0.3; exit 130' TERM
echo "nullspace is at work" >>"$CALLS"
if [[ $* == *ends* ]]; then
  until [[ $(grep -c ^start-node "$CALLS") == 3 ]]; do sleep 0.1; done # Ray's own nodes are waited for before
  exit 7
fi
while :; do sleep 0.1; done
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of three nodes; CALLS is the file that records the calls."""
    fakes = {
        "path/srun": SRUN,
        "path/scontrol": SCONTROL,
        "repository/cluster/start-node.sh": START_NODE,
        "repository/.venv/bin/nullspace": NULLSPACE,
        "repository/.venv/bin/python": "exit 0\n",  # all nodes have joined
    }
    for name, text in fakes.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/usr/bin/env bash\n{text}", encoding="utf-8")
        file.chmod(0o755)
    (port,) = free_ports(1)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    return clean | {
        "PATH": f"{tmp_path / 'path'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_SUBMIT_DIR": str(tmp_path / "repository"),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_GPUS_ON_NODE": "2",
        "RAY_PORT": str(port),
    }


def calls(env: dict[str, str]) -> list[str]:
    file = Path(env["CALLS"])
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def batch(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(["bash", str(SCRIPT), *arguments], env=env)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_good_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(script)], check=True)


def test_dry_run_shows_a_command_for_every_node(slurm: dict[str, str]) -> None:
    done = batch(slurm, "--dry-run", "demo", "--workdir", "/shared/runs/demo")
    assert done.returncode == 0, done.stderr
    head, second, third, run = done.stdout.splitlines()
    address = f"localhost:{slurm['RAY_PORT']}"
    assert "--nodelist localhost" in head and " head --temp-dir /tmp/ray-42 --num-cpus 8 --num-gpus 2 --block" in head
    assert "--nodelist node2" in second and f" worker {address} --num-cpus 8 --num-gpus 2 --block" in second
    assert "--nodelist node3" in third
    assert run.strip().endswith(f"nullspace run demo --workdir /shared/runs/demo --address {address}")
    assert calls(slurm) == [] and "TOKEN" not in done.stdout


def test_a_run_has_a_node_each_and_hands_on_its_exit_code(slurm: dict[str, str]) -> None:
    done = batch(slurm, "ends", "--workdir=/shared/runs/demo")
    assert done.returncode == 7, done.stderr
    called = calls(slurm)
    assert len([line for line in called if line.startswith("srun ")]) == 3
    assert sorted(line for line in called if line.startswith("start-node")) == [
        "start-node head token=64 mode=token",
        "start-node worker token=64 mode=token",
        "start-node worker token=64 mode=token",
    ]
    assert f"nullspace run ends --workdir=/shared/runs/demo --address localhost:{slurm['RAY_PORT']}" in called


@pytest.mark.parametrize("again", [False, True])
def test_before_the_time_is_up_the_run_may_end_by_itself(slurm: dict[str, str], again: bool) -> None:
    env = slurm | ({"NULLSPACE_REQUEUE": "1"} if again else {})
    with subprocess.Popen(["bash", str(SCRIPT), "demo", "--workdir", "/shared/a"], env=env) as job:
        try:
            wait_until(lambda: "nullspace is at work" in calls(env), "the run begins", process=job)
            job.send_signal(signal.SIGTERM)  # as --signal=B:TERM@120 does
            assert end_of(job, "the job ends") == 130
        finally:
            job.kill()
    assert "nullspace was stopped" in calls(env)
    assert ("scontrol requeue 42" in calls(env)) is again


def test_a_head_that_ends_at_once_is_not_waited_for(slurm: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "repository" / "cluster" / "start-node.sh"
    script.write_text("#!/usr/bin/env bash\necho 'no room on /tmp' >&2\nexit 1\n", encoding="utf-8")
    done = batch(slurm, "demo", "--workdir", "/shared/a")
    assert done.returncode == 2 and "no room on /tmp" in done.stderr
    assert f"Ray's head on localhost ended before it answered at localhost:{slurm['RAY_PORT']}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "message"),
    [
        ([], "", "expected CONFIG --workdir /shared/runs/NAME, got 'nothing'"),
        (["demo"], "", "expected --workdir with an absolute path"),
        (["demo", "--workdir", "runs/demo"], "", "expected --workdir with an absolute path"),
        (["demo", "--workdir", "/shared/a"], "SLURM_JOB_NODELIST", "not inside a Slurm job"),
        (["demo", "--workdir", "/shared/a"], "repository/.venv/bin/nullspace", "no installed nullspace in"),
    ],
    ids=["nothing", "no folder", "relative folder", "no Slurm", "not installed"],
)
def test_mistakes_are_explained(
    slurm: dict[str, str], tmp_path: Path, arguments: list[str], missing: str, message: str
) -> None:
    env = {name: value for name, value in slurm.items() if name != missing}
    if "/" in missing:
        (tmp_path / missing).unlink()
    done = batch(env, *arguments)
    assert done.returncode != 0 and message in done.stderr and done.stdout == ""
