"""Progress: plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pipelines.engine import progress as module
from pipelines.engine.progress import Counter, Progress
from pipelines.files import read_json
from pipelines.stages.search.tune.progress import SearchProgress


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def plain() -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=False, width=60))
    return progress.of("reference--digits"), out


def test_lines_say_how_far_how_fast_and_how_long_still(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(8, "shards") as counter:
        clock.now += 20
        counter.add(2)
    assert out.getvalue() == "  reference--digits: 2/8 shards in 20.0 s, 6 shards/min, 1 min 00 s left\n"


def test_lines_come_at_most_every_ten_seconds(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(100, "shards") as counter:
        for _ in range(100):
            clock.now += 0.5
            counter.add(1)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == [
        "20/100",
        "40/100",
        "60/100",
        "80/100",
        "100/100",
    ]


def test_a_note_is_part_of_the_line_and_there_is_no_forecast_at_the_start(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(3, "trials") as counter:
        clock.now += 11
        counter.note("trial 1: step 50")
    assert out.getvalue() == "  reference--digits: 0/3 trials in 11.0 s, trial 1: step 50\n"


def test_printed_lines_are_neither_marked_up_nor_wrapped() -> None:
    progress, out = plain()
    text = "reused   [bold]kernel[/bold] /a/very/long/path/" + "x" * 80
    progress.say(text)
    assert out.getvalue() == text + "\n"


def on_terminal() -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    progress = Progress(
        Console(file=out, force_terminal=True, width=140, color_system=None, _environ={"TERM": "xterm"})
    )
    return progress.of("payload--digits"), out


def test_what_an_earlier_run_did_does_not_count_for_the_pace(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(1000, "images") as counter:
        counter.skip(800)
        clock.now += 20
        counter.add(100)
    assert out.getvalue() == "  reference--digits: 900/1000 images in 20.0 s, 5 images/s, 20.0 s left\n"


def test_the_count_is_kept_for_others_to_read(clock: Clock, tmp_path: Path) -> None:
    progress, _ = plain()
    file = tmp_path / "progress.json"
    with progress.kept_in(file).counting(1000, "images") as counter:
        counter.skip(800)
        given = {"done": 800, "of": 1000, "unit": "images"}
        assert read_json(file) == given
        counter.add(1)
        assert read_json(file) == given, "at most once a second"
        clock.now += 1
        counter.note("a last one")
        assert read_json(file) == {**given, "done": 801, "note": "a last one"}
    with progress.counting(2, "images"):
        pass  # kept nowhere


def test_a_search_that_goes_on_counts_the_trials_it_had_before() -> None:
    before = SearchProgress(None)
    trial: Any = SimpleNamespace(trial_id="a")
    before.on_trial_result(0, [], trial, {"radius": 0.5, "step": 20})
    before.on_trial_complete(0, [], trial)
    counter = Counter(plain()[0], 8, "trials")
    after = SearchProgress(counter)
    after.set_state(before.get_state())
    assert (counter.done, after.best) == (1, 0.5)


def test_long_times_are_in_minutes_and_hours(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(1000, "images") as counter:
        clock.now += 3661
        counter.add(100)
    assert out.getvalue() == "  reference--digits: 100/1000 images in 1 h 01 min, 1.6 images/min, 9 h 09 min left\n"


def test_a_terminal_shows_a_bar_that_moves() -> None:
    progress, out = on_terminal()
    with progress.counting(4, "shards") as counter:
        counter.add(1)
        counter.note("rows of [shard] 2")
        counter.add(2)
        bars = counter.bars  # pyright: ignore[reportAttributeAccessIssue]
        assert (bars.tasks[0].completed, bars.tasks[0].total, counter.done) == (3, 4, 3)
    assert not bars.tasks and not bars.live.is_started
    shown = out.getvalue()
    assert "payload--digits" in shown and "3/4" in shown and "shards" in shown


def test_stages_side_by_side_share_one_display() -> None:
    progress, out = on_terminal()
    with progress.counting(4, "images") as one:
        with progress.of("search--other").counting(2, "trials") as other:
            other.add(1)
            bars = one.bars  # pyright: ignore[reportAttributeAccessIssue]
            assert other.bars is bars and len(bars.tasks) == 2  # pyright: ignore[reportAttributeAccessIssue]
        assert bars.live.is_started and len(bars.tasks) == 1
    assert not bars.live.is_started
    assert "search--other" in out.getvalue()


def test_an_error_ends_the_bar() -> None:
    progress, _ = on_terminal()
    with pytest.raises(RuntimeError), progress.counting(4, "shards") as counter:
        raise RuntimeError
    assert not counter.display.bars  # pyright: ignore
    with progress.counting(4, "shards"):
        pass  # rich allows one live display at a time
