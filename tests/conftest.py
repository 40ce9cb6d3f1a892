"""Fixtures shared by all tests: the real assets, when they are there."""

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
