"""ASHA after a restore judges trials as if there had been none."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.early_stopping import ResumableASHA

RESULTS = "result.json"


class Search:
    """A scheduler and its trials, without Tune's event loop; trials write their results as Tune has them do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scheduler = ResumableASHA(time_attr="step", max_t=90, grace_period=10, reduction_factor=3)
        self.scheduler.set_search_properties("radius", "max")
        self.trials: dict[str, Any] = {}

    def add(self, name: str) -> None:
        storage = SimpleNamespace(trial_dir_name=name, trial_fs_path=str(self.folder / name))
        (self.folder / name).mkdir(exist_ok=True)
        self.trials[name] = SimpleNamespace(trial_id=name, storage=storage, status="RUNNING", config={})
        self.scheduler.on_trial_add(SimpleNamespace(), self.trials[name])  # pyright: ignore[reportArgumentType]

    def report(self, name: str, step: int, radius: float) -> str:
        result = {"step": step, "radius": radius}
        with (self.folder / name / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        return self.scheduler.on_trial_result(SimpleNamespace(), self.trials[name], result)  # pyright: ignore


def course(seed: int) -> list[tuple[str, int, float]]:
    """Reports of nine trials at three rungs, trial by trial in a random order within each rung."""
    random = np.random.default_rng(seed)
    quality = random.uniform(size=9)
    return [
        (f"t{trial}", step, float(quality[trial] + 0.1 * random.normal()))
        for step in (10, 30, 90)
        for trial in random.permutation(9)
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("killed_after", [0, 4, 9, 15])
def test_a_restored_scheduler_decides_as_the_undisturbed_one(tmp_path: Path, seed: int, killed_after: int) -> None:
    whole, cut = (tmp_path / name for name in ("whole", "cut"))
    whole.mkdir()
    cut.mkdir()
    undisturbed, first, after = Search(whole), Search(cut), Search(cut)
    for number in range(9):
        undisturbed.add(f"t{number}")
        first.add(f"t{number}")
    said = course(seed)
    expected = [undisturbed.report(*report) for report in said]
    found = [first.report(*report) for report in said[:killed_after]]
    for number in range(9):  # the restore: a new scheduler, and trials that have already reported
        after.add(f"t{number}")
    found += [after.report(*report) for report in said[killed_after:]]
    assert found == expected and "STOP" in expected


def test_a_line_that_a_kill_cut_off_ends_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "t0").mkdir()
    (tmp_path / "t0" / RESULTS).write_text('{"step": 10, "radius": 0.5}\n{"step": 30, "rad', encoding="utf-8")
    search = Search(tmp_path)
    search.add("t0")
    recorded = [recorded for _, recorded in search.scheduler._brackets[0]._rungs]
    assert recorded[-1] == {"t0": 0.5} and not any(recorded[:-1])
