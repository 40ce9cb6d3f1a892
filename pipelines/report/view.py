"""What a stage provides for page and terminal, made from its own result alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from pipelines import wording
from pipelines.files import read_json
from pipelines.report.inputs import Examples, examples, small_table
from pipelines.report.outcomes import CONTROLS, JsonObject, Mean, Outcome, mean_in
from pipelines.report.parts import Cell, ReportFigure, Section, Table, Tile, share_cell


@dataclass(frozen=True)
class Result:
    """A stage's result as people read it; a value that it does not have is None or empty, never an error."""

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

    def below(self, name: str) -> Result:
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
class NamedOutcome:
    """What became of the model's answers under one condition, as the terminal's table names it."""

    title: str
    outcome: Outcome
    control: bool = False


@dataclass(frozen=True)
class StageReport:
    """The report of a stage. Where the stage was skipped, none of these is called: the reason is shown instead."""

    name: str
    title: str
    section: Callable[[StageView], Section]
    tile: Callable[[StageView], Tile] | None = None
    outcomes: Callable[[StageView], list[NamedOutcome]] = field(default=lambda view: [])
    """For the terminal's table."""
    lines: Callable[[StageView], list[str]] = field(default=lambda view: [])
    """Of the terminal, above that table."""
    columns: Mapping[str, Callable[[StageView], Cell]] = field(default_factory=dict)
    """Of the table that compares models: title, and the cell of a model."""
    across: Callable[[Sequence[StageView]], list[Table]] = field(default=lambda views: [])
    """Tables about several models at once, from the views of those that were not skipped."""
    figures: Callable[[StageView], Iterator[ReportFigure]] = field(default=lambda view: iter(()))
    picture_titles: Mapping[str, str] = field(default_factory=dict)
    """Of its example pictures `NN_name.png`, by name, where the name does not say enough."""


def outcomes_of(
    labels: Mapping[str, str], controls: tuple[str, ...] = CONTROLS
) -> Callable[[StageView], list[NamedOutcome]]:
    """The `outcomes` of a `StageReport`: those of the conditions in `labels`, in that order."""

    def outcomes(view: StageView) -> list[NamedOutcome]:
        found = view.result.conditions
        return [NamedOutcome(labels[name], found[name], name in controls) for name in labels if name in found]

    return outcomes


def agreement_of(condition: str) -> Callable[[StageView], Cell]:
    """A column of a `StageReport`: the share of predictions unchanged under a condition, with interval and n."""
    return lambda view: share_cell(view.result.conditions.get(condition))
