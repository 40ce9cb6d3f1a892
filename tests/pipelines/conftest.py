"""One finished run of the demo, made through the command line, for all tests that only look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.driver import SMALL, Driver


@dataclass(frozen=True)
class DemoRun:
    """What the run left: its work folder, the results it printed, and its stderr."""

    workdir: Path
    results: dict[str, Any]
    stderr: str

    def stage(self, name: str) -> Path:
        """Folder of a finished stage."""
        (folder,) = [path for path in (self.workdir / "stages").iterdir() if path.name.startswith(f"{name}-")]
        return folder


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The small demo, run once, with temporary files in a folder of a long name, as on clusters. Tests must not change
    its folder.
    """
    workdir = tmp_path_factory.mktemp("demo_run") / "work"
    temporary = workdir.parent / (
        "temporary-" + "x" * max(1, 110 - len(str(workdir.parent)))
    )  # 120 characters and more
    temporary.mkdir()
    settings = {**SMALL, "resources.workers": "0"}  # as the demo is shipped
    with Driver(workdir, settings=settings, variables={"TMPDIR": str(temporary)}) as driver:
        results = driver.results()
        return DemoRun(workdir, results, driver.stderr)
