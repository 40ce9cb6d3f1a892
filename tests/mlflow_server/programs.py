"""Programs of the operating system that these tests use: found, or the test is skipped; in full CI it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

FULL = "NULLSPACE_CI_FULL"  # set where the packages could be installed
REPOSITORY = Path(__file__).resolve().parents[2]


def need(program: str, package: str, *folders: Path) -> Path:
    """Path of a program, on PATH or in one of the folders."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    found = shutil.which(program, path=places)
    if found:
        return Path(found)
    message = f"{program} is not there; on Debian and Ubuntu: apt-get install {package}"
    if os.environ.get(FULL):
        pytest.fail(message)
    pytest.skip(message)


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without settings of MLflow, PostgreSQL and S3 that the machine may have."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG", "AWS_"))}
    return own | changes
