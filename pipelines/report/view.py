"""What a stage hands to the page and the terminal, and what it makes that from: its own result, nothing else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from pipelines import wording
from pipelines.files import read_json
from pipelines.report.inputs import Examples, examples, small_table
from pipelines.report.outcomes import JsonObject, Mean, Outcome, mean_in
from pipelines.report.parts import Cell, ReportFigure, Section, Tile


@dataclass(frozen=True)
class Result:
    """A stage's result as people read it: what it does not hold is None or empty, never an error."""

    content: JsonObject

    @property
    def skipped(self) -> str | None:
        """Why there is nothing, or None."""
        return str(self.content["skipped"]) if "skipped" in self.content else None

    @cached_property
    def conditions(self) -> dict[str, Outcome]:
        """What became of the model's answers, by condition; conditions without a row are left out."""
        named = self.content.get("conditions") or {}
        return {name: Outcome.of(figures) for name, figures in named.items() if figures.get("n")}

    def part(self, name: str) -> Result:
        """What stands below a key."""
        return Result(self.content.get(name) or {})

    def mean(self, name: str) -> Mean | None:
        return mean_in(self.content, name)

    def number(self, name: str) -> str:
        """A figure as people read it; a dash where there is none."""
        return wording.format_number(self.content.get(name))

    def value(self, name: str) -> float | None:
        """A figure as it is."""
        found = self.content.get(name)
        return found if wording.is_number(found) else None

    def text(self, name: str) -> str:
        """A text; empty where there is none."""
        return str(self.content.get(name) or "")

    def flag(self, name: str) -> bool:
        return bool(self.content.get(name))

    def items(self) -> Iterator[tuple[str, object]]:
        yield from self.content.items()

    def __bool__(self) -> bool:
        return bool(self.content)


@dataclass(frozen=True)
class StageView:
    """One finished stage of one model."""

    label: str
    result: Result
    folder: Path | None = None
    """None where only results.json is at hand."""

    def table(self, name: str) -> pd.DataFrame | None:
        """A small table of its folder (spectrum, trials, curves); None when absent or empty."""
        return None if self.folder is None else small_table(self.folder / name)

    def record(self, name: str) -> JsonObject:
        """A JSON file of its folder; empty when absent."""
        path = None if self.folder is None else self.folder / name
        return read_json(path) if path is not None and path.is_file() else {}

    def examples(self) -> Examples:
        return examples(self.folder)


@dataclass(frozen=True)
class Row:
    """A condition in the terminal's table."""

    title: str
    outcome: Outcome
    control: bool = False


@dataclass(frozen=True)
class StageReport:
    """What a stage says of itself. What was skipped reaches none of these: the reason is shown in their place."""

    name: str
    title: str
    section: Callable[[StageView], Section]
    tile: Callable[[StageView], Tile] | None = None
    rows: Callable[[StageView], list[Row]] = field(default=lambda view: [])
    facts: Callable[[StageView], list[str]] = field(default=lambda view: [])
    """Lines of the terminal."""
    columns: Mapping[str, Callable[[StageView], Cell]] = field(default_factory=dict)
    """Of the table that compares models: title, and the cell of a model."""
    figures: Callable[[StageView], Iterator[ReportFigure]] = field(default=lambda view: iter(()))
    picture_titles: Mapping[str, str] = field(default_factory=dict)
    """Of its example pictures `NN_name.png`, by name, where the name does not say enough."""


def rows_of(conditions: Mapping[str, Outcome], labels: Mapping[str, str], controls: tuple[str, ...]) -> list[Row]:
    """A row for each condition, in the order of `labels`."""
    return [Row(labels[name], conditions[name], name in controls) for name in labels if name in conditions]
