"""What the report is made of: cells, tables, sections, headlines; and the one table every noise is shown in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines import wording
from pipelines.report.inputs import Examples
from pipelines.report.saved_figures import ReportFigure
from pipelines.wording import number, number_interval, percent, percent_interval

OUTCOMES = {
    "mse_logits": "‖Δlogits‖²",
    "mse_probabilities": "‖Δprobabilities‖²",
    "mse_features": "‖Δfeatures‖²",
    "confidence_change": "Δ confidence",
}


LARGEST = {
    "max_abs_logit_change": "max |Δlogit|",
    "max_probability_change": "max |Δp|",
    "largest_token_change": "Worst ‖A·δ‖",
}


@dataclass(frozen=True)
class Cell:
    """A value and, smaller below it, its interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """First column names the row; the others are numbers unless `numeric` is False. `muted` rows are controls.

    A `folded` table shows its caption until it is opened.
    """

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    muted: list[bool] = field(default_factory=list)
    numeric: bool = True
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One heading with everything below it. `missing` says why there is nothing to show."""

    title: str
    sentence: str = ""
    missing: str | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    pictures: Examples | None = None
    code: str = ""


@dataclass(frozen=True)
class Tile:
    """One headline: a number and the sentence that says what it means."""

    title: str
    value: str
    unit: str
    sentence: str


@dataclass(frozen=True)
class ModelPart:
    """Everything about one model; `anchor` is its place on the page."""

    label: str
    anchor: str
    subtitle: str
    tiles: list[Tile]
    sections: list[Section]


def stability_table(caption: str, conditions: Mapping[str, Any], labels: Mapping[str, str]) -> Table:
    """One row per condition, learned or exact first, controls after it; every mean with its 95 % interval.

    ‖A·δ‖ of the worst patch of all images is in mean token norms.
    """
    names = list(dict.fromkeys(name for name in (*labels, *conditions) if name in conditions))
    shown = [key for key in (*OUTCOMES, *LARGEST) if any(key in conditions[name] for name in names)]
    return Table(
        caption,
        ["Noise", "Unchanged", "n", *((OUTCOMES | LARGEST)[key] for key in shown)],
        [stability_row(labels.get(name, name), conditions[name], shown) for name in names],
        [name in wording.FOR_COMPARISON for name in names],
    )


def stability_row(title: str, outcome: Mapping[str, Any], shown: list[str]) -> list[Cell]:
    """Cells of one condition."""
    means = [Cell(number(outcome.get(key)), number_interval(outcome.get(f"{key}_ci"))) for key in shown]
    unchanged = Cell(percent(outcome.get("agreement")), percent_interval(outcome.get("agreement_ci")))
    return [Cell(title), unchanged, Cell(number(outcome.get("n"))), *means]
