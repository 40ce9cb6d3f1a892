"""ASHA after a restore decides as if there had been none, wherever the kill came and however old Tune's state is."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.stages.search.tune.early_stopping import JOURNAL, ResumableASHA

EVERY, LAST = 10, 90


@dataclass
class Kept:
    """What Tune's state says of a trial."""

    name: str
    steps: int
    saved: int = 0
    result: tuple[int, float] | None = None
    over: bool = False


class Serial:
    """Trials one after the other, as Tune runs them with this scheduler, but without its processes."""

    def __init__(self, folder: Path, radii: np.ndarray, state: list[Kept] | None = None) -> None:
        self.folder, self.radii, self.told = folder, radii, []
        self.scheduler = ResumableASHA(time_attr="step", max_t=LAST, grace_period=EVERY, reduction_factor=3)
        self.scheduler.set_search_properties("radius", "max")
        self.state: list[Kept] = []
        self.trials: list[Any] = []
        self.search_alg = SimpleNamespace(on_trial_complete=lambda name, result: self.told.append((name, result)))
        for kept in reversed(copy.deepcopy(state or [])):  # Tune adds the newest first
            self._add(kept)
        self.state.reverse()
        self.trials.reverse()

    def _add(self, kept: Kept) -> None:
        saved = SimpleNamespace(metrics={"step": kept.saved}) if kept.saved else None
        trial = SimpleNamespace(
            trial_id=kept.name,
            storage=SimpleNamespace(experiment_fs_path=str(self.folder)),
            status="TERMINATED" if kept.over else "PENDING",
            latest_checkpoint_result=saved,
            last_result=dict(zip(("step", "radius"), kept.result, strict=True)) if kept.result else {},
        )
        self.state.append(kept)
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)  # pyright: ignore[reportArgumentType]

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        self.scheduler.on_trial_remove(self, trial)  # pyright: ignore[reportArgumentType]
        self.state[self.trials.index(trial)].over, trial.status = True, "TERMINATED"

    def run(self) -> Iterator[None]:
        """Stops wherever Tune may save its state, or a kill may come."""
        for number in range(len(self.radii)):
            if number == len(self.state):
                self._add(Kept(uuid.uuid4().hex, steps=(30, 60, LAST)[number % 3]))
            trial, kept = self.trials[number], self.state[number]
            self.scheduler.choose_trial_to_run(self)  # pyright: ignore[reportArgumentType]
            while not kept.over:
                trial.status = "RUNNING"
                step = min(kept.saved + EVERY, kept.steps)  # one that had only to end reports its last step again
                result = {"step": step, "radius": float(self.radii[number, step // EVERY])}
                stop = step == kept.steps
                if not stop:
                    stop = self.scheduler.on_trial_result(self, trial, result) == "STOP"  # pyright: ignore
                yield
                kept.result = step, result["radius"]
                yield
                kept.saved = step
                yield
                if stop:
                    self.scheduler.on_trial_complete(self, trial, result)  # pyright: ignore[reportArgumentType]
                    kept.over = True
                yield

    def ends(self) -> list[int]:
        for _ in self.run():
            pass
        return [kept.saved for kept in self.state]


def radii(seed: int) -> np.ndarray:
    """What nine trials report at each step: noise on a quality that grows."""
    random = np.random.default_rng(seed)
    return random.uniform(size=(9, 1)) + 0.02 * np.arange(LAST // EVERY + 1) + 0.1 * random.normal(size=(9, 10))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("behind", [0, 1, 2, 3, 9])
def test_a_restored_search_ends_its_trials_where_the_undisturbed_one_does(
    tmp_path: Path, seed: int, behind: int
) -> None:
    """`behind`: how many moments Tune's state is older than the kill."""
    (tmp_path / "whole").mkdir()
    undisturbed = Serial(tmp_path / "whole", radii(seed))
    moments = sum(1 for _ in undisturbed.run())
    expected = [kept.saved for kept in undisturbed.state]
    rungs = _rungs(undisturbed)
    assert any(end < kept.steps for end, kept in zip(expected, undisturbed.state, strict=True)), "some are stopped"
    for killed_after in range(1 + seed, moments, 7):
        folder = tmp_path / str(killed_after)
        folder.mkdir()
        first, state = Serial(folder, radii(seed)), []
        for moment, _ in zip(range(killed_after), first.run(), strict=False):
            if moment == max(0, killed_after - 1 - behind):
                state = copy.deepcopy(first.state)
        after = Serial(folder, radii(seed), state)
        assert after.ends() == expected, f"killed after {killed_after} of {moments}"
        assert _rungs(after) == rungs


def _rungs(search: Serial) -> list[list[float]]:
    """What was recorded at each rung."""
    return [sorted(recorded.values()) for _, recorded in search.scheduler._brackets[0]._rungs]


def test_a_trial_that_a_kill_kept_from_being_stopped_is_complete_for_the_searcher(tmp_path: Path) -> None:
    lines = [["a", 10, 0.5, "CONTINUE"], ["a", 30, 0.6, "COMPLETE"], ["b", 10, 0.1, "STOP"]]
    (tmp_path / JOURNAL).write_text("".join(f"\n{json.dumps(line)}" for line in lines), encoding="utf-8")
    kept = [Kept("a", 30, 30, (30, 0.6), over=True), Kept("b", 60, 10, (10, 0.1))]
    after = Serial(tmp_path, radii(0)[:2], kept)
    assert after.ends() == [30, 10] and after.told == [("b", {"step": 10, "radius": 0.1})]


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text('\n["t0", 10, 0.5, "CONTINUE"]\n["t0", 30, 0.', encoding="utf-8")
    search = Serial(tmp_path, radii(0)[:1], [Kept("t0", 30, 10, (10, 0.5))])
    assert _rungs(search) == [[], [], [0.5]]
    search.ends()
    again = Serial(tmp_path, radii(0)[:1], [Kept("t0", 30, 30, (30, 0.5), over=True)])
    assert _rungs(again) == _rungs(search) and len(_rungs(again)[1]) == 1
