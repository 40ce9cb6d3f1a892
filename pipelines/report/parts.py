"""What the report is made of: cells, tables, sections, headlines; and the one table every noise is shown in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines import wording
from pipelines.report.inputs import Examples
from pipelines.report.outcomes import FOR_COMPARISON, LARGEST, OUTCOMES, Mean, Outcome, Share, in_order

if TYPE_CHECKING:  # matplotlib, when something is drawn
    from pipelines.report.drawing import Theme


@dataclass(frozen=True)
class Cell:
    """A value and, smaller below it, its interval.

    Cells of columns that compare models also carry the figure itself, to sort, plot and export by, and its `n` images.
    """

    text: str
    detail: str = ""
    figure: Mean | None = None
    n: int | None = None


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
class ReportFigure:
    """One figure: `draw` makes its PNG bytes for a theme; `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    draw: Callable[[Theme], bytes]


@dataclass(frozen=True)
class Section:
    """One heading with everything below it. `missing` says why there is nothing to show.

    `facts` are short texts with a title. A stage leaves `figures` to its `StageReport`, from which they are put in, as
    are the `picture_titles` known there.
    """

    title: str
    missing: str | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    pictures: Examples | None = None
    picture_titles: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True)
class Tile:
    """One headline: a number and the sentence that says what it means."""

    title: str
    value: str
    unit: str
    sentence: str


@dataclass(frozen=True)
class ModelArticle:
    """Everything the page says of one model; `anchor` is its place there."""

    label: str
    anchor: str
    subtitle: str
    tiles: list[Tile]
    sections: list[Section]


def stability_table(
    caption: str,
    conditions: Mapping[str, Outcome],
    labels: Mapping[str, str],
    *,
    controls: Collection[str] = FOR_COMPARISON,
    own: Mapping[str, str] | None = None,
) -> Table:
    """One row per condition, learned or exact first, controls after it; every mean with its 95 % interval.

    `own` are figures of this question alone, by name, with their titles. ‖A·δ‖ of the worst patch of all images is in
    mean token norms.
    """
    names, titles = in_order(conditions, labels), {**OUTCOMES, **(own or {}), **LARGEST}
    measured = {key for name in names for key in (*conditions[name].means, *conditions[name].numbers)}
    shown = [key for key in titles if key in measured]
    return Table(
        caption,
        ["Noise", "Unchanged", "n", *(titles[key] for key in shown)],
        [_stability_row(labels.get(name, name), conditions[name], shown) for name in names],
        [name in controls for name in names],
    )


def _stability_row(title: str, outcome: Outcome, shown: list[str]) -> list[Cell]:
    share = outcome.agreement
    unchanged = Cell(wording.MISSING) if share is None else Cell(share.text, share.interval)
    return [
        Cell(title),
        unchanged,
        Cell(wording.format_number(outcome.n)),
        *(Cell(*outcome.text(key)) for key in shown),
    ]


def share_tile(title: str, outcome: Outcome, sentence: str) -> Tile:
    """A headline about predictions unchanged."""
    return Tile(title, wording.MISSING if outcome.agreement is None else outcome.agreement.text, "unchanged", sentence)


def share_cell(outcome: Outcome | None) -> Cell:
    """Agreement with interval and n, or a dash for what was not measured."""
    return Cell(wording.MISSING) if outcome is None else cell_of(outcome.agreement, outcome.n)


def cell_of(share: Share | None, n: int) -> Cell:
    """A share with interval and n, or a dash for what was not measured."""
    if share is None:
        return Cell(wording.MISSING)
    return Cell(share.text, f"{share.interval}\nn = {wording.format_number(n)}".strip(), share, n)


def agreement_figure(
    name: str, title: str, conditions: Mapping[str, Outcome], labels: Mapping[str, str]
) -> ReportFigure:
    """Bars of predictions unchanged, a condition each."""

    def draw(theme: Theme) -> bytes:
        from pipelines.report.drawing import agreement_bars

        return agreement_bars(conditions, labels=labels, theme=theme)

    text = "; ".join(f"{labels.get(key, key)} {outcome.unchanged}" for key, outcome in conditions.items())
    return ReportFigure(
        name,
        title,
        f"Share of predictions unchanged with 95 % intervals: {text}.",
        draw,
    )


def psnr_fact(outcome: Outcome) -> tuple[str, str]:
    """How far pictures are from their originals: '41.2 dB [41.0, 41.4]'; a dash where none has changed."""
    mean = outcome.means.get("psnr")
    return "PSNR to the original", f"{outcome.decibel('psnr')} {'' if mean is None else mean.interval}".strip()


def moved_fact(outcome: Outcome) -> list[tuple[str, str]]:
    """The certificate of pictures as saved in 8 bits: how far their tokens moved."""
    mean, worst = outcome.means.get("token_change"), outcome.numbers.get("largest_token_change")
    if mean is None or worst is None:
        return []
    text = (
        f"{wording.format_percent(mean.value)} (root mean square), {wording.format_percent(worst)} in the worst patch"
    )
    return [("Tokens moved, ‖A·δ‖ in token norms", text)]
