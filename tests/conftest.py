"""Fixtures shared by all tests, and which tests share a process when several run side by side."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# An example that takes long says something about the machine, nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Two test processes with a thread per core each would wait for one another most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# These take as long as all others that look at the run: a second one for them costs less than one process waiting.
_STOPPED = {"test_resume", "test_side_by_side", "test_signals"}

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder of real weights and images: NULLSPACE_ASSETS, or `shared/assets` beside the repository."""
    folder = Path(os.environ.get("NULLSPACE_ASSETS", REPOSITORY.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"real weights and images are not at {folder}; set NULLSPACE_ASSETS to run this test")
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files that look at one finished run, or at one server, stay in one process: making it twice costs minutes."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(REPOSITORY / nodeid.partition("::")[0])

    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups begin first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    first = ("demo_run", "mlflow_server", "demo_run, stopped")

    def order(item: pytest.Item) -> int:
        group = group_of(item.path)
        return first.index(group) if group in first else len(first) if item.path in slow else len(first) + 1

    items.sort(key=order)


@cache
def group_of(file: Path) -> str:
    """Name of the group of a test file."""
    if "mlflow_server" in file.parts:
        return "mlflow_server"
    if "demo_run" not in file.read_text(encoding="utf-8"):
        return str(file)
    return "demo_run, stopped" if file.stem in _STOPPED else "demo_run"
