"""Fixtures shared by all tests, and which tests share a process when several run side by side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Two test processes with a thread per core each would wait for one another most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder of real weights and images: NULLSPACE_ASSETS, or `shared/assets` beside the repository."""
    folder = Path(os.environ.get("NULLSPACE_ASSETS", REPOSITORY.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip(f"real weights and images are not at {folder}; set NULLSPACE_ASSETS to run this test")
    return folder


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that look at one finished run, or at one server, stay together: making it twice would cost minutes.

    The longest groups begin first, so that no process is left alone with one at the end.
    """
    runs = {item.path for item in items if "demo_run" in getattr(item, "fixturenames", ())}
    server = REPOSITORY / "tests" / "mlflow_server"
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def group(item: pytest.Item) -> str:
        if item.path in runs:
            return "demo_run"
        return server.name if server in item.path.parents else str(item.path)

    def order(item: pytest.Item) -> int:
        return 0 if item.path in runs else 1 if server in item.path.parents else 2 if item.path in slow else 3

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=order)
