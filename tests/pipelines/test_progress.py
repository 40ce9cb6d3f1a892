"""Progress: plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines import progress as module
from pipelines.progress import Progress


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
    progress.stage = "reference--digits"
    return progress, out


def test_lines_say_how_far_how_fast_and_how_long_still(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(8, "shards") as counter:
        clock.now += 20
        counter.add(2)
    assert out.getvalue() == "  reference--digits: 2/8 shards in 20 s, 60 s left\n"


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


def test_a_note_is_part_of_the_line_and_nothing_done_foretells_nothing(clock: Clock) -> None:
    progress, out = plain()
    with progress.counting(3, "trials") as counter:
        clock.now += 11
        counter.note("trial 1: step 50")
    assert out.getvalue() == "  reference--digits: 0/3 trials in 11 s, trial 1: step 50\n"


def test_what_is_said_is_neither_marked_up_nor_broken() -> None:
    progress, out = plain()
    said = "reused   [bold]kernel[/bold] /a/very/long/path/" + "x" * 80
    progress.say(said)
    assert out.getvalue() == said + "\n"


def on_terminal() -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    progress = Progress(
        Console(file=out, force_terminal=True, width=140, color_system=None, _environ={"TERM": "xterm"})
    )
    progress.stage = "evaluate--digits"
    return progress, out


def test_a_terminal_shows_a_bar_that_moves() -> None:
    progress, out = on_terminal()
    with progress.counting(4, "shards") as counter:
        counter.add(1)
        counter.note("rows of [shard] 2")
        counter.add(2)
        task = counter.bars.tasks[0]  # pyright: ignore[reportAttributeAccessIssue]
        assert (task.completed, task.total, counter.done) == (3, 4, 3)
    assert task.finished_time is None and not counter.bars.live.is_started  # pyright: ignore[reportAttributeAccessIssue]
    shown = out.getvalue()
    assert "evaluate--digits" in shown and "3/4" in shown and "shards" in shown


def test_an_error_ends_the_bar() -> None:
    progress, _ = on_terminal()
    with pytest.raises(RuntimeError), progress.counting(4, "shards") as counter:
        raise RuntimeError
    assert not counter.bars.live.is_started  # pyright: ignore
    with progress.counting(4, "shards"):
        pass  # rich allows one live display at a time
