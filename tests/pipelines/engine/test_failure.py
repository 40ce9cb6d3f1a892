"""What an error means to the person at the terminal."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest
import torch
from ray.exceptions import OutOfMemoryError

from nullspace.errors import NullspaceError
from pipelines.engine.failure import branches_failed, summarise_error, user_error
from pipelines.errors import BranchesFailed, DiskFullError, NoMemoryError, SourceError


def raised(*errors: Exception) -> Exception:
    """The last of them, each the cause of the next."""
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[-1]


class FromWorker(Exception):
    """As Ray brings an error: as an attribute."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("task failed")
        self.cause = cause


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        raised(FULL, RuntimeError("while writing")),
        FromWorker(FULL),
        RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO metrics …]"),
    ],
)
def test_a_full_disk_is_reported_with_the_remedy(error: Exception) -> None:
    found = user_error(error)
    assert isinstance(found, DiskFullError) and "free space and repeat the command" in str(found)
    assert len(str(found)) < 500 and "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"),
        raised(
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), OSError()
        ),
        FromWorker(MemoryError()),
        OutOfMemoryError("Task was killed due to the node running low on memory.\nTop 10 users: …\nSee the docs."),
    ],
)
def test_too_little_memory_is_reported_with_the_remedy(error: Exception) -> None:
    found = user_error(error)
    assert isinstance(found, NoMemoryError) and "lower batch_images" in str(found) and "\n" not in str(found)


def test_of_a_long_message_the_line_that_tells_is_shown() -> None:
    error = user_error(OutOfMemoryError("Task was killed due to the node running low on memory.\nTop users: …\nSee."))
    assert str(error).startswith("out of memory (Task was killed due to the node running low on memory.); lower")


def test_torch_itself_says_what_is_looked_for() -> None:
    with pytest.raises(RuntimeError) as raised_:
        torch.empty(2**62, dtype=torch.int8)
    assert isinstance(user_error(raised_.value), NoMemoryError)


def test_an_error_that_better_input_cures_is_found_in_the_chain() -> None:
    cause = SourceError("no images")
    assert user_error(raised(cause, RuntimeError("x"))) is cause and user_error(FromWorker(cause)) is cause
    assert user_error(RuntimeError("x")) is None and user_error(None) is None


def test_an_unforeseen_error_is_kept_with_its_traceback(tmp_path: Path) -> None:
    file = tmp_path / "failed-one.txt"
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        assert summarise_error(error, file) == f"ZeroDivisionError: division by zero; the traceback is in {file}"
    assert "test_failure.py" in file.read_text(encoding="utf-8")


def test_an_error_with_a_remedy_needs_no_traceback(tmp_path: Path) -> None:
    assert summarise_error(SourceError("no images; give some"), tmp_path / "f") == "no images; give some"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("models", "rest"), [(2, ""), (5, " The report has the others.")])
def test_several_failures_are_one_error(models: int, rest: str) -> None:
    errors: dict[str, Exception] = {"a": SourceError("no a"), "b": ZeroDivisionError()}
    failed = branches_failed(errors, models)
    assert str(failed).startswith(
        f"2 of {models} models failed: a: no a; b: ZeroDivisionError.{rest} Repeat the command"
    )
    assert isinstance(failed, NullspaceError) and user_error(failed) is failed and isinstance(failed, BranchesFailed)
    assert failed.exit_code == 70, "a program's fault is worth another try"
    assert branches_failed({"a": SourceError("no a")}, models).exit_code == 1
