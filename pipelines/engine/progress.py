"""Progress of long work: bars on a terminal, plain lines elsewhere. Stages that work side by side share one display."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from pipelines.files import write_json
from pipelines.wording import format_duration

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_COUNTS = 1.0


class Progress:
    """Shows which stage is at work, how far it is, how fast, and how long it still takes."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.stage = ""
        self.kept: Path | None = None
        self._display = _Display(self.console)

    def of(self, stage: str) -> Progress:
        """The progress of one stage, on the same display."""
        own = copy.copy(self)
        own.stage = stage
        return own

    def kept_in(self, file: Path) -> Progress:
        """The same, with the count kept in a file, where `nullspace status` reads it."""
        own = copy.copy(self)
        own.kept = file
        return own

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def counting(self, total: int, unit: str) -> Iterator[Counter]:
        """Yield a counter; `counter.add(n)` moves it."""
        counter = _Bar(self, total, unit, self._display) if self.console.is_terminal else Counter(self, total, unit)
        try:
            yield counter
        finally:
            counter.close()


class Counter:
    """Plain lines, at most one in ten seconds."""

    def __init__(self, progress: Progress, total: int, unit: str) -> None:
        self.progress, self.total, self.unit = progress, total, unit
        self.done, self.found, self.noted = 0, 0, ""
        self.started = self.last_line = time.monotonic()
        self.last_kept = self.started - _SECONDS_BETWEEN_COUNTS
        self._keep()

    def skip(self, count: int) -> None:
        """Count what an earlier run did; it does not count for the speed of this one."""
        self.found += count
        self.done += count
        self.last_kept -= _SECONDS_BETWEEN_COUNTS  # it comes right after the beginning
        self._keep()

    def add(self, count: int) -> None:
        self.done += count
        self._keep()
        self._show()

    def note(self, text: str) -> None:
        """Say what is being worked on right now."""
        self.noted = text
        self._keep()
        self._show()

    def close(self) -> None:
        pass

    def pace(self) -> str:
        """Speed, remaining time and the current item; what is not known yet is left out."""
        seconds, made = time.monotonic() - self.started, self.done - self.found
        parts = []
        if made and seconds:
            parts.append(_rate(made / seconds, self.unit))
            parts.append(f"{format_duration((self.total - self.done) * seconds / made)} left")
        return ", ".join([*parts, *([self.noted] if self.noted else [])])

    def _keep(self) -> None:
        now = time.monotonic()
        if self.progress.kept is None or now - self.last_kept < _SECONDS_BETWEEN_COUNTS:
            return
        self.last_kept = now
        state = {"done": self.done, "of": self.total, "unit": self.unit}
        with suppress(OSError):  # a full disk is reported by the work itself
            write_json(self.progress.kept, state | ({"note": self.noted} if self.noted else {}))

    def _show(self) -> None:
        now = time.monotonic()
        if now - self.last_line < _SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        far = f"{self.done}/{self.total} {self.unit} in {format_duration(now - self.started)}"
        self.progress.say("  " + ", ".join(filter(None, [f"{self.progress.stage}: {far}", self.pace()])))


class _Bar(Counter):
    def __init__(self, progress: Progress, total: int, unit: str, display: _Display) -> None:
        super().__init__(progress, total, unit)
        self.display = display
        self.bars, self.task = display.open(progress.stage, total, unit)

    def skip(self, count: int) -> None:
        super().skip(count)
        self._show()

    def close(self) -> None:
        self.display.close(self.task)

    def _show(self) -> None:
        self.bars.update(self.task, completed=self.done, pace=self.pace())


class _Display:
    """One live display for all bars of a console, since rich cannot show two; it exists while there is a bar."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars: Bars | None = None
        self._lock = threading.Lock()

    def open(self, stage: str, total: int, unit: str) -> tuple[Bars, TaskID]:
        with self._lock:
            if self.bars is None:
                self.bars = _bars(self.console)
                self.bars.start()
            return self.bars, self.bars.add_task(stage, total=total, unit=unit, pace="")

    def close(self, task: TaskID) -> None:
        with self._lock:
            if self.bars is None:
                return
            bars, last = self.bars, len(self.bars.tasks) == 1
            if last:
                bars.stop()
                self.bars = None
            bars.remove_task(task)


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}"),
        console=console,
        transient=True,
    )


def _rate(per_second: float, unit: str) -> str:
    """`120 images/s`, or `3.2 trials/min` for what takes longer than a second."""
    return f"{per_second:.3g} {unit}/s" if per_second >= 1 else f"{60 * per_second:.2g} {unit}/min"
