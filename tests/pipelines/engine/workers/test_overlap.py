"""One piece read ahead and one written behind: what runs beside what, and what failures leave."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path

import pytest

from pipelines.engine.workers.overlap import overlapped
from tests.waiting import wait_until

NAMES = ["a", "b", "c", "d"]


class Steps:
    """Notes what begins and ends, and on which thread; fails at `bad`."""

    def __init__(self, bad: str = "") -> None:
        self.bad, self.log = bad, list[str]()
        self.lock = threading.Lock()

    def note(self, step: str, name: str) -> str:
        with self.lock:
            self.log.append(f"{step} {name}")
        if f"{step} {name}" == self.bad:
            raise OSError(f"cannot {step} {name}")
        return name

    def read(self, name: str) -> str:
        return self.note("read", name)

    def make(self, name: str, read: str) -> str:
        assert name == read and threading.current_thread() is threading.main_thread()
        return self.note("make", name)

    def write(self, name: str, made: str) -> str:
        assert name == made and threading.current_thread() is not threading.main_thread()
        return self.note("write", name)


def run(steps: Steps) -> list[str]:
    return list(overlapped(NAMES, read=steps.read, make=steps.make, write=steps.write))


def test_every_name_is_read_made_and_written_in_order() -> None:
    steps = Steps()
    assert run(steps) == NAMES
    for step in ("read", "make", "write"):
        assert [each for each in steps.log if each.startswith(step)] == [f"{step} {name}" for name in NAMES]
    assert list(overlapped([], read=steps.read, make=steps.make, write=steps.write)) == []


def test_the_next_is_read_while_one_is_made_and_none_beyond_it() -> None:
    steps = Steps()

    def make(name: str, read: str) -> str:
        following = NAMES[NAMES.index(name) + 1 :]
        if following:
            wait_until(lambda: f"read {following[0]}" in steps.log, "the next is read")
        assert not any(f"read {later}" in steps.log for later in following[1:])
        return steps.make(name, read)

    assert list(overlapped(NAMES, read=steps.read, make=make, write=steps.write)) == NAMES


def test_one_is_written_while_the_next_is_made() -> None:
    steps, made = Steps(), threading.Event()

    def make(name: str, read: str) -> str:
        if name == "b":
            made.set()
        return steps.make(name, read)

    def write(name: str, table: str) -> str:
        assert name != "a" or made.wait(60), "b is made meanwhile"
        return steps.write(name, table)

    assert list(overlapped(NAMES, read=steps.read, make=make, write=write)) == NAMES


@pytest.mark.parametrize("step", ["read", "make", "write"])
def test_an_error_comes_with_the_traceback_of_its_thread_and_what_was_made_is_written(step: str) -> None:
    steps = Steps(bad=f"{step} b")
    with pytest.raises(OSError, match=f"cannot {step} b") as raised:
        run(steps)
    assert step in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert "write a" in steps.log and "write d" not in steps.log


def test_an_interrupt_leaves_what_was_made_whole(tmp_path: Path) -> None:
    steps = Steps()

    def make(name: str, read: str) -> str:
        if name == "b":
            raise KeyboardInterrupt
        return steps.make(name, read)

    def write(name: str, made: str) -> str:
        (tmp_path / name).write_text(made)
        return name

    with pytest.raises(KeyboardInterrupt):
        list(overlapped(NAMES, read=steps.read, make=make, write=write))
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
