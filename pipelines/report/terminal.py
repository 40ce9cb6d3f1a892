"""The results as tables: for a terminal, plain ASCII text in a file or a pipe, and as Markdown for MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pipelines import wording
from pipelines.report.model import Model, across
from pipelines.report.parts import Table
from pipelines.report.view import NamedOutcome

COLUMNS = ("Noise", "Unchanged", "95 % interval", "n", "max logit\nchange")


def render(models: Sequence[Model], warnings: Sequence[str], console: Console) -> None:
    """Print, per model, the lines of its stages and a table of outcomes; last the warnings."""
    for position, model in enumerate(models):
        lines = [Text("")] if position else []
        lines += [Text(model.label, style="bold"), *(Text(_ascii(line)) for line in stage_lines(model))]
        for line in lines:
            console.print(line, soft_wrap=not console.is_terminal)  # in a pipe or file a line is not broken
        table = outcomes_table(model, plain=not console.is_terminal)
        if table.row_count:
            console.print(table)
    for warning in warnings:
        console.print(Text(_ascii(f"warning: {warning}"), style="yellow"), soft_wrap=True)


def as_markdown(models: Sequence[Model], warnings: Sequence[str] = ()) -> str:
    """The same lines and tables as Markdown, controls in italics; first the warnings."""
    paragraphs = [paragraph for model in models for paragraph in _paragraphs(model)]
    tables = [_table(table) for table in across(models)]
    return "\n\n".join([*(f"**Warning:** {warning}" for warning in warnings), *tables, *paragraphs])


def _paragraphs(model: Model) -> Iterator[str]:
    yield f"**{model.label}**"
    yield "\n".join(f"- {' '.join(line.split())}" for line in stage_lines(model))
    rows = [
        [_cell(text, outcome.control) for text in texts_of(outcome)]
        for stage in model.stages
        for outcome in stage.outcomes()
    ]
    if rows:
        yield _lines([name.replace("\n", " ") for name in COLUMNS], rows)


def _table(table: Table) -> str:
    """A table of the report: its caption in bold, values with their details."""
    muted = table.muted or [False] * len(table.rows)
    rows = [
        [_cell(" ".join(f"{cell.text} {cell.detail}".split()), control) for cell in row]
        for row, control in zip(table.rows, muted, strict=True)
    ]
    return f"**{table.caption}**\n\n{_lines(table.columns, rows)}"


def _lines(columns: Sequence[str], rows: list[list[str]]) -> str:
    head = [[_cell(name, control=False) for name in columns], [":--", *["--:"] * (len(columns) - 1)]]
    return "\n".join(f"| {' | '.join(texts)} |" for texts in (*head, *rows))


def _cell(text: str, control: bool) -> str:
    escaped = text.replace("|", "\\|")
    return f"*{escaped}*" if control and text else escaped


def stage_lines(model: Model) -> Iterator[str]:
    """One or more lines about each stage: what it found, or why it was skipped."""
    named = [(stage.report.name.replace("_", " "), line) for stage in model.stages for line in stage.lines()]
    widest = max((len(name) for name, _ in named), default=0)
    for name, line in named:
        yield f"  {name:{widest}}  {line}"


def outcomes_table(model: Model, *, plain: bool) -> RichTable:
    """Every noise with its controls; `plain` leaves out lines and colours."""
    table = RichTable(box=None if plain else box.ROUNDED)
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for stage in model.stages:
        for outcome in stage.outcomes():
            texts = (Text(_ascii(text)) for text in texts_of(outcome))
            table.add_row(*texts, style="dim" if outcome.control else None)
        table.add_section()
    return table


def texts_of(named: NamedOutcome) -> tuple[str, str, str, str, str]:
    """Title, agreement, interval, n and largest logit change of one condition: a row of the table."""
    share, outcome = named.outcome.agreement, named.outcome
    agreement, ends = (wording.MISSING, "") if share is None else (share.text, share.interval)
    return (named.title, agreement, ends, wording.format_number(outcome.n), outcome.text("max_abs_logit_change")[0])


def _ascii(text: str) -> str:
    """A Windows pipe or LANG=C can print neither a dash nor an infinity sign nor an epsilon."""
    return text.replace(wording.MISSING, "-").replace("∞", "inf").replace("ε", "eps").replace("×", "x")
