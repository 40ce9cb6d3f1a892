"""`nullspace run` as a user starts it: a process of its own that is watched, stopped at a chosen moment, cleaned up."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from tests.waiting import end_of, wait_until

NULLSPACE = Path(sys.executable).with_name("nullspace")  # the installed command

# The demo, made small; one trial at a time, so that two runs give the very same numbers.
SMALL = {
    "source.limit": "120",
    "resources.workers": "1",  # Ray's, as where there are many images; `demo_run` itself does the work
    "ingest.shard_images": "40",
    "search.trials": "2",
    "search.max_concurrent": "1",
    "search.steps": "[20,40]",
    "search.report_every": "20",
    "search.grace_steps": "40",  # none is stopped early: what a kill interrupts decides no figure
    "search.learn_images": "40",
    "search.validation_images": "20",
    "search.calibration_images": "30",
    "attribution": "null",  # asked once, in test_explanations.py: it would add its time to every run
    "adversarial": "null",  # asked in its own tests, for the same reason
    "corruption": "null",  # asked once, in test_corruptions.py
    "fooling.pairs": "8",
    "fooling.steps": "6",
    "fooling.universal_images": "16",
    "fooling.universal_steps": "4",
    "search.epsilon": "0.3",  # 22 images are the fewest that show it
}
EVALUATIONS = ("kernel_noise", "learned_noise", "visible_watermark", "payload", "fooling")
ROWS = "*-*.parquet"
UNDER_WAY = {  # what shows that a stage has done a part of its work; the others are over too soon
    "ingest": ROWS, "reference": ROWS, "search": "tune/*/checkpoint_*/state.json", **dict.fromkeys(EVALUATIONS, ROWS),
}  # fmt: skip
STAGES = ("ingest", "reference", "kernel", "search", *EVALUATIONS, "report")


class Driver:
    """A run of the demo under way. Use as a context manager: whatever the test does, nothing of it stays alive."""

    def __init__(
        self,
        workdir: Path,
        *arguments: str,
        settings: Mapping[str, str] = SMALL,
        config: str = "demo",
        logs: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.workdir = workdir
        logs = logs or workdir.parent
        logs.mkdir(parents=True, exist_ok=True)
        count = len([*logs.glob("*.out")])
        self._out, self._stderr = logs / f"{count}.out", logs / f"{count}.err"
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        with self._out.open("wb") as out, self._stderr.open("wb") as err:
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
                # A background job of a shell ignores Ctrl-C and hands that down, also to the run to be interrupted.
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self.process = subprocess.Popen(
                [str(NULLSPACE), "run", config, "--workdir", str(workdir), "--json", *sets, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**environment(), **(variables or {})},
                start_new_session=True,  # its Ray is found again by its session
            )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def stderr(self) -> str:
        """What it wrote to stderr so far: progress, and the error at the end."""
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return self._out.read_text(encoding="utf-8")

    def finish(self) -> int:
        """Wait for the end; returns the exit code."""
        return end_of(self.process, "the run ends", output=self._stderr)

    def results(self) -> dict[str, Any]:
        """Wait for a good end; returns the JSON it printed."""
        assert self.finish() == 0, self.stderr
        return json.loads(self.out)

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait until something happened, closely enough to stop the driver in the middle of it."""
        wait_until(happened, what, process=self.process, output=self._stderr)

    def until_stage(self, stage: str) -> None:
        """Wait until a stage is under way: one that works through shards has written rows, the search a checkpoint."""
        self.until(lambda: f"running  {stage}" in self.stderr, f"{stage} begins")
        if stage in UNDER_WAY:
            found = self.workdir / "stages"
            pattern = f"{stage}-*.partial/{UNDER_WAY[stage]}"
            self.until(lambda: f"done     {stage}" in self.stderr or [*found.glob(pattern)], f"{stage} is under way")

    def kill(self) -> None:
        """kill -9 of the driver alone, as an out-of-memory killer does it."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def processes(self, *, only: tuple[str, ...] = ("",), but: tuple[str, ...] = ()) -> list[int]:
        """Processes of this run, Ray's included: those whose command line holds one of `only` and none of `but`."""
        found = subprocess.run(["ps", "-A", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 2) for line in found.stdout.splitlines()]
        alive = [(int(pid), args) for pid, state, args in rows if not state.startswith("Z")]
        wanted = [pid for pid, args in alive if any(o in args for o in only) and not any(b in args for b in but)]
        return [pid for pid in wanted if _session(pid) == self.process.pid]


@dataclass(frozen=True)
class Answer:
    """What the command line answered in this process: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def is_one_error(self) -> bool:
        """Exit code 1, one message that begins with `error:`, nothing on stdout, no traceback."""
        return self.code == 1 and not self.out and self.err.startswith("error: ") and "Traceback" not in self.err


def nullspace(*arguments: str) -> Answer:
    """`nullspace …` without a process of its own, which would import everything again."""
    from cluster.cli import main

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["nullspace", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return Answer(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    """This process's environment without what would lead a run elsewhere."""
    return {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}


def client_of(workdir: Path) -> MlflowClient:
    """A client of the store a run in `work` writes to by default."""
    uri = f"sqlite:///{workdir.parent / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs_of(workdir: Path, experiment: str = "demo") -> list[Run]:
    """All MLflow runs of an experiment; none when it does not exist yet."""
    client = client_of(workdir)
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id], max_results=1000))


def children_of(runs: list[Run], parent: str | None) -> list[Run]:
    return [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]


def stage_runs(runs: list[Run], parent: str) -> dict[str, Run]:
    """Runs of the stages below a parent run by name, each there once."""
    found = children_of(runs, parent)
    named = {run.data.tags["nullspace.stage"]: run for run in found}
    assert len(named) == len(found), "a stage has two runs"
    return named


def data_sets_of(run: Run) -> list[DatasetInput]:
    """What a run reads, as MLflow shows it."""
    return run.inputs.dataset_inputs if run.inputs else []


def half_written(workdir: Path) -> list[Path]:
    """Unfinished stages and files written aside."""
    return [
        p for p in workdir.rglob("*") if p.name.endswith(".partial") or (p.name.startswith(".") and p.name != ".lock")
    ]


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """The part of results.json that must not depend on when, where and in how many attempts it was made."""
    model = results["models"]["digits"]
    place = ("artifact", "best_trial", "vit_model_id", "version")
    return {"data": results["data"], **model, "search": {k: v for k, v in model["search"].items() if k not in place}}


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def rows_of(folder: Path) -> pd.DataFrame:
    """All outcome rows of a stage, read by pandas alone."""
    return pd.concat([pq.read_table(file).to_pandas() for file in sorted(folder.glob("rows-*.parquet"))])
