"""The helper that waits: it ends with the event, and it does not wait for the dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import waiting
from tests.waiting import end_of, wait_until


def python(code: str, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as out:
        return subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=subprocess.STDOUT)


def test_what_happened_is_returned() -> None:
    answers = iter([None, "", "there"])
    assert wait_until(lambda: next(answers), "an answer", pause=0) == "there"


def test_a_dead_process_is_not_waited_for(tmp_path: Path) -> None:
    process = python("print('I give up'); raise SystemExit(3)", tmp_path / "output")
    with pytest.raises(AssertionError, match="exit status 3 before: it works; its output:\nI give up"):
        wait_until(lambda: False, "it works", process=process, output=tmp_path / "output")


def test_what_a_process_did_last_counts(tmp_path: Path) -> None:
    process = python(f"open({str(tmp_path / 'made')!r}, 'w')", tmp_path / "output")
    process.wait()
    seen = iter([False, (tmp_path / "made").exists()])
    assert wait_until(lambda: next(seen), "the file is there", process=process)


def test_at_the_limit_it_says_what_it_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LIMIT", 0.01)
    with pytest.raises(AssertionError, match="not within 0.01 s: the impossible"):
        wait_until(lambda: False, "the impossible")
    with python("import time; print('still here', flush=True); time.sleep(1000)", tmp_path / "output") as process:
        try:
            while not (tmp_path / "output").read_text():
                assert process.poll() is None
            with pytest.raises(AssertionError, match=r"still running after 0.01 s: its end; its output:\nstill here"):
                end_of(process, "its end", output=tmp_path / "output")
        finally:
            process.kill()
