"""The work folder: one experiment's, one run at a time, writable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.configs.pipeline import PipelineConfig
from pipelines.errors import WorkdirError
from pipelines.workflow import workfolder
from tests.waiting import LONGER


def config(name: str = "mine") -> PipelineConfig:
    settings = {"name": name, "source": {"kind": "digits"}, "models": [{"name": "nullspace_digits_vit"}]}
    return PipelineConfig.model_validate(settings)


def test_a_folder_is_made_and_holds_the_whole_config(tmp_path: Path) -> None:
    workdir = tmp_path / "deep" / "work"
    with workfolder.opened(workdir, config()):
        assert (workdir / "stages").is_dir() and workfolder.is_held(workdir)
        assert PipelineConfig.model_validate(yaml.safe_load((workdir / "config.yaml").read_text())) == config()
    assert not workfolder.is_held(workdir)


def test_another_experiments_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    with workfolder.opened(tmp_path, config()):
        workfolder.update_run(tmp_path, experiment="mine", state="running")
    before = (tmp_path / "config.yaml").read_text()
    message = "is the work folder of experiment 'mine', not of 'other'; choose another --workdir"
    with pytest.raises(WorkdirError, match=message), workfolder.opened(tmp_path, config("other")):
        pytest.fail("it must not be opened")
    assert (tmp_path / "config.yaml").read_text() == before and not workfolder.is_held(tmp_path)
    with workfolder.opened(tmp_path, config()):
        pass


def test_a_folder_in_use_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    with workfolder.opened(tmp_path, config()):
        message = f"is in use by process {os.getpid()} on .*; wait for it, stop it, or choose another --workdir"
        with pytest.raises(WorkdirError, match=message), workfolder.opened(tmp_path, config()):
            pytest.fail("it must not be opened twice")
        assert workfolder.is_held(tmp_path), "the refused one takes nothing from the holder"
    with workfolder.opened(tmp_path, config()):
        pass


def test_a_failed_run_lets_go_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), workfolder.opened(tmp_path, config()):
        raise RuntimeError
    assert not workfolder.is_held(tmp_path)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    # The lock alone, so that the child need not import what the pipeline imports.
    hold = f"f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep({LONGER})"
    code = f"import fcntl, sys, time; {hold}"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert workfolder.is_held(tmp_path)
        holder.kill()
    with workfolder.opened(tmp_path, config()):
        assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()


@pytest.mark.parametrize("workdir", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, workdir: str) -> None:
    (tmp_path / "file").write_text("in the way")
    message = f"cannot write to the work folder .*{workdir}: .*; choose another with --workdir"
    with pytest.raises(WorkdirError, match=message), workfolder.opened(tmp_path / workdir, config()):
        pytest.fail("it must not be opened")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WorkdirError, match="cannot write to the work folder"), workfolder.opened(tmp_path, config()):
        pytest.fail("it must not be opened")


def test_the_record_of_a_run_is_merged(tmp_path: Path) -> None:
    assert workfolder.read_run(tmp_path) is None and not workfolder.is_held(tmp_path)
    workfolder.update_run(tmp_path, experiment="mine", state="running")
    workfolder.update_run(tmp_path, state="finished")
    record = workfolder.read_run(tmp_path)
    assert record is not None and (record["experiment"], record["state"]) == ("mine", "finished") and record["at"]
