"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Says which stage works, how far it is, how fast, and how long it still takes."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.stage = ""

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def counting(self, total: int, unit: str) -> Iterator[Counter]:
        """Yield a counter; `counter.add(n)` moves it."""
        counter = _Bar(self, total, unit) if self.console.is_terminal else Counter(self, total, unit)
        try:
            yield counter
        finally:
            counter.close()


class Counter:
    """Plain lines, at most one in ten seconds."""

    def __init__(self, progress: Progress, total: int, unit: str) -> None:
        self.progress, self.total, self.unit = progress, total, unit
        self.done, self.noted = 0, ""
        self.started = self.last_line = time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last_line >= _SECONDS_BETWEEN_LINES:
            self.last_line = now
            self.progress.say(self._line(now))

    def note(self, text: str) -> None:
        """Say what is being worked on right now."""
        self.noted = text
        self.add(0)

    def close(self) -> None:
        pass

    def _line(self, now: float) -> str:
        seconds = now - self.started
        left = f", {(self.total - self.done) * seconds / self.done:.0f} s left" if self.done else ""
        noted = f", {self.noted}" if self.noted else ""
        return f"  {self.progress.stage}: {self.done}/{self.total} {self.unit} in {seconds:.0f} s{left}{noted}"


class _Bar(Counter):
    def __init__(self, progress: Progress, total: int, unit: str) -> None:
        super().__init__(progress, total, unit)
        self.bars = Bars(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[noted]}"),
            console=progress.console,
            transient=True,
        )
        self.task = self.bars.add_task(progress.stage, total=total, noted="")
        self.bars.start()

    def add(self, count: int) -> None:
        self.done += count
        self.bars.update(self.task, advance=count, noted=self.noted)

    def close(self) -> None:
        self.bars.stop()
