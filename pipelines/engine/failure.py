"""What an error means to the person at the terminal: a remedy where there is one, a traceback where there is none."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from nullspace.errors import NullspaceError
from pipelines.errors import BranchesFailed, DiskFullError, NoMemoryError
from pipelines.wording import last_line

FAULT = 70  # EX_SOFTWARE: not caused by the input, the same may succeed when tried again; bad input exits with 1
_FULL = (errno.ENOSPC, errno.EDQUOT)
# SQLite, Arrow and what Ray brings as text from a worker have no errno.
_SAYS_FULL = re.compile(r"No space left on device|database or disk is full|Disk quota exceeded|OutOfDiskError")
# torch raises RuntimeError for the CPU, classes of its own for GPUs.
_SAYS_NO_MEMORY = re.compile(
    r"out of memory\b|can't allocate memory|Cannot allocate memory|running low on memory", re.IGNORECASE
)


def user_error(error: BaseException | None) -> NullspaceError | None:
    """The first error in the chain of causes that better input or more room cures; None where there is none."""
    chain = list(_chain(error))
    found = next((link for link in chain if isinstance(link, NullspaceError)), None)
    if isinstance(found, BranchesFailed):
        return found
    full = next((link for link in chain if not isinstance(link, NullspaceError) and is_disk_full(link)), None)
    if full is not None:
        return DiskFullError(
            f"a disk is full ({_short_message(full)}); free space and repeat the command: finished stages are kept"
        )
    if found is None and (short := next((link for link in chain if _is_no_memory(link)), None)) is not None:
        return NoMemoryError(
            f"out of memory ({_short_message(short)}); lower batch_images (of the stage), or give each "
            "worker more room with resources.workers or resources.gpus_per_worker, then repeat the command: what is "
            "finished is kept"
        )
    return found


def summarise_error(error: Exception, file: Path) -> str:
    """One line about an error; an unforeseen one is kept with its traceback in `file`, and the line names that file."""
    known = user_error(error)
    if known is not None:
        return str(known)
    file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{type(error).__name__}: {_short_message(error)}; the traceback is in {file}"


def one_line(error: BaseException) -> str:
    """What went wrong, in one line; for an unforeseen error with its class."""
    known = user_error(error)
    return " ".join(str(known).split()) if known is not None else f"{type(error).__name__}: {_short_message(error)}"


def branches_failed(errors: Mapping[str, Exception], models: int) -> BranchesFailed:
    """One error for all the models that failed."""
    reasons = "; ".join(f"{label}: {user_error(error) or type(error).__name__}" for label, error in errors.items())
    rest = "" if len(errors) == models else " The report has the others."
    failed = BranchesFailed(
        f"{len(errors)} of {models} models failed: {reasons}.{rest} Repeat the command to try "
        "again: finished stages are kept"
    )
    failed.__cause__ = next(iter(errors.values()))
    failed.exit_code = 1 if all(user_error(error) for error in errors.values()) else FAULT
    return failed


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the chain of its causes, also across the border of a Ray worker."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        cause = getattr(error, "cause", None)
        error = cause if isinstance(cause, BaseException) else error.__cause__ or error.__context__


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full."""
    return getattr(error, "errno", None) in _FULL or bool(_SAYS_FULL.search(str(error)))


def _is_no_memory(error: BaseException) -> bool:
    if type(error).__name__ == "OutOfMemoryError":  # torch's, and Ray's, whose memory monitor killed a task
        return True
    if isinstance(error, NullspaceError) or not isinstance(error, (MemoryError, RuntimeError)):
        return False
    return isinstance(error, MemoryError) or bool(_SAYS_NO_MEMORY.search(str(error)))


def _short_message(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    telling = (line for says in (_SAYS_FULL, _SAYS_NO_MEMORY) for line in lines if says.search(line))
    return next(telling, last_line(error))[:300]
