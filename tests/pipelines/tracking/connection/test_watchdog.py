"""No run is left RUNNING: drivers that are really killed, and the sidecar that closes their runs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.tracking.connection.watchdog import Watchdog, close_runs
from pipelines.tracking.tracker import Tracker
from tests.waiting import end_of, is_alive, wait_until

REPOSITORY = Path(__file__).resolve().parents[4]

# A driver with everything that might keep its end of the pipe open after its death: Ray's processes with a worker at
# work, a child forked without exec, a child program.
DRIVER = """
import multiprocessing, subprocess, sys, time
import ray
from pipelines.engine.machines.ray_start import patient_start
from pipelines.tracking.tracker import Tracker
from pipelines.tracking.connection.watchdog import Watchdog
from tests.waiting import LONGER

def nap():
    time.sleep(LONGER)

tracker = Tracker(sys.argv[1], sys.argv[2])
run = tracker.begin_run("key", name="run", tags={}, params={})
watchdog = Watchdog.start(tracker.uri, run, session=tracker.session)
with patient_start():
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
ray.remote(nap).remote()
forked = multiprocessing.get_context("fork").Process(target=nap)
forked.start()
program = subprocess.Popen(["sleep", str(LONGER)])
done = tracker.begin_stage(run, stage="kernel", branch=None, fingerprint="f0", params={})
tracker.end(done, "FINISHED")
stage = tracker.begin_stage(run, stage="search", branch=None, fingerprint="f1", params={})
trial = tracker.begin_trial(stage, trial_id="a", params={})
print("READY", watchdog.process.pid, forked.pid, program.pid, run, done, stage, trial, flush=True)
nap()
"""


@pytest.fixture
def driver(tracker: Tracker, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """A driver at work, and what it printed: pids of sidecar, forked child, program; run ids."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, tracker.uri, tracker.experiment],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        ready = re.compile("^READY (.*)\\n", re.MULTILINE)
        found = wait_until(lambda: ready.search(output.read_text()), "it is ready", process=process, output=output)
        assert found is not None
        yield process, found[1].split()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the driver's children and its Ray, whatever the test did
        process.wait()


def statuses(tracker: Tracker, run_ids: list[str]) -> list[str]:
    return [tracker.client.get_run(run_id).info.status for run_id in run_ids]


def begin(tracker: Tracker) -> str:
    return tracker.begin_run("key", name="run", tags={}, params={})


def test_kill_9_of_a_driver_on_ray_closes_its_runs(
    tracker: Tracker, driver: tuple[subprocess.Popen[bytes], list[str]]
) -> None:
    process, (sidecar, forked, program, *runs) = driver
    assert statuses(tracker, runs) == ["RUNNING", "FINISHED", "RUNNING", "RUNNING"]
    process.send_signal(signal.SIGSTOP)  # a driver that hangs is not dead yet
    time.sleep(0.5)
    assert statuses(tracker, runs) == ["RUNNING", "FINISHED", "RUNNING", "RUNNING"]
    process.kill()
    closed = ["KILLED", "FINISHED", "KILLED", "KILLED"]
    wait_until(lambda: statuses(tracker, runs) == closed, "the runs are closed", pause=0.2)
    assert is_alive(int(forked)) and is_alive(int(program)), "the children outlived the driver, as the test means"
    wait_until(lambda: not is_alive(int(sidecar)), "the sidecar ends", pause=0.2)


def test_done_lets_the_sidecar_go_without_touching_anything(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, log = begin(tracker), tmp_path / "log"
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # Python writes a line for every import
    with Watchdog.start(tracker.uri, run, session=tracker.session, log=log) as watchdog:
        pass
    assert end_of(watchdog.process, "the sidecar ends", output=log) == 0
    assert statuses(tracker, [run]) == ["RUNNING"]
    output = log.read_text().splitlines()
    assert output and all(line.startswith("import time:") for line in output), "it did nothing"
    assert not [line for line in output if "mlflow" in line], "a clean end costs no import of MLflow"
    watchdog.done()  # again: harmless


def test_leaving_by_an_exception_closes_what_the_driver_did_not(tracker: Tracker, tmp_path: Path) -> None:
    run = begin(tracker)
    failed = tracker.begin_stage(run, stage="kernel", branch=None, fingerprint="f", params={})
    with pytest.raises(RuntimeError), Watchdog.start(tracker.uri, run, session=tracker.session, log=tmp_path / "log"):
        tracker.end(failed, "FAILED")
        raise RuntimeError
    wait_until(lambda: run in (tmp_path / "log").read_text(), "the sidecar tells its story", pause=0.2)
    assert statuses(tracker, [run, failed]) == ["KILLED", "FAILED"]


def test_runs_of_another_session_are_left_alone(tracker: Tracker) -> None:
    run = begin(tracker)
    orphan = tracker.begin_stage(run, stage="kernel", branch=None, fingerprint="f", params={})
    later = Tracker(tracker.uri, tracker.experiment)
    later.client.set_tag(run, "nullspace.session", later.session)  # a resumed driver was quicker
    assert close_runs(tracker.uri, run, tracker.session) == [orphan]
    assert statuses(tracker, [run, orphan]) == ["RUNNING", "KILLED"]


def test_signals_to_the_process_group_do_not_end_the_sidecar(tracker: Tracker) -> None:
    run = begin(tracker)
    watchdog = Watchdog.start(tracker.uri, run, session=tracker.session)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        watchdog.process.send_signal(number)  # it has hardly begun: it ignores signals from the first moment on
    watchdog.done()
    assert end_of(watchdog.process, "the sidecar ends") == 0


def test_the_driver_goes_on_after_its_sidecar_was_killed(tracker: Tracker) -> None:
    run = begin(tracker)
    watchdog = Watchdog.start(tracker.uri, run, session=tracker.session)
    watchdog.process.kill()
    watchdog.process.wait()
    watchdog.done()
    assert watchdog.process.returncode == -signal.SIGKILL
    assert statuses(tracker, [run]) == ["RUNNING"], "the driver's own run is the driver's to end"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="command lines are read from /proc")
def test_the_uri_is_not_on_the_command_line() -> None:
    with Watchdog.start("http://me:secret@nowhere", "run", session="s") as watchdog:
        assert b"secret" not in Path(f"/proc/{watchdog.process.pid}/cmdline").read_bytes()
