"""The results as tables: for a terminal, plain ASCII text in a file or a pipe, and as Markdown for MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import wording
from pipelines.wording import KERNEL_CONDITIONS, NOISE_CONDITIONS, number, percent, percent_interval

Row = tuple[str, str, str, str, str]
COLUMNS = ("Noise", "Unchanged", "95 % interval", "n", "max logit\nchange")


def render(results: Mapping[str, Any], console: Console) -> None:
    """Print, per model of `results` (the content of results.json), its facts and a table; last what warns of them."""
    for position, (label, model) in enumerate((results.get("models") or {}).items()):
        lines = [Text("")] if position else []
        lines += [Text(label, style="bold"), *(Text(_ascii(line)) for line in facts(model))]
        for line in lines:
            console.print(line, soft_wrap=not console.is_terminal)  # what goes to a program stays on its line
        table = outcomes_table(model, plain=not console.is_terminal)
        if table.row_count:
            console.print(table)
    for warning in results.get("warnings") or []:
        console.print(Text(_ascii(f"warning: {warning}"), style="yellow"), soft_wrap=True)


def as_markdown(results: Mapping[str, Any]) -> str:
    """The same facts and tables as Markdown, controls in italics; first what warns of them."""
    warnings = [f"**Warning:** {warning}" for warning in results.get("warnings") or []]
    parts = (part for label, model in (results.get("models") or {}).items() for part in _markdown_parts(label, model))
    return "\n\n".join([*warnings, *parts])


def _markdown_parts(label: str, model: Mapping[str, Any]) -> Iterator[str]:
    yield f"**{label}**"
    yield "\n".join(f"- {' '.join(line.split())}" for line in facts(model))
    rows = [[_cell(text, control) for text in row] for group in groups(model) for row, control in group]
    if rows:
        head = [[name.replace("\n", " ") for name in COLUMNS], [":--", *["--:"] * (len(COLUMNS) - 1)]]
        yield "\n".join(f"| {' | '.join(cells)} |" for cells in (*head, *rows))


def _cell(text: str, control: bool) -> str:
    escaped = text.replace("|", "\\|")
    return f"*{escaped}*" if control and text else escaped


def facts(model: Mapping[str, Any]) -> Iterator[str]:
    """A line each about kernel, noise and marks: size, or why there is none."""
    kernel, noise, mark = (model.get(name) or {} for name in ("kernel", "noise", "watermark"))
    yield f"  kernel     {wording.why_missing(kernel) or wording.kernel_size(kernel)}"
    yield f"  noise      {wording.why_missing(noise) or noise_size(noise)}"
    look = f"PSNR {wording.decibel(mark.get('psnr'))}, SSIM {number(mark.get('ssim'))}"
    yield f"  watermark  {wording.why_missing(mark) or look}"
    if read := wording.messages(mark):
        yield f"  messages   {read}"
    if saved := wording.eight_bits(model):
        yield f"  8 bits     {saved}"


def noise_size(noise: Mapping[str, Any]) -> str:
    """'2.4 times the token norm', and within which epsilon that is guaranteed to be."""
    size, guarantee = f"{number(noise.get('relative_norm'))} times the token norm", noise.get("guarantee")
    if not guarantee:
        return size
    confidence = f"{100 * guarantee['confidence']:g} %"
    return f"{size}; mean |dp|^2 <= {number(guarantee['bound'])} on new images, with confidence {confidence}"


def outcomes_table(model: Mapping[str, Any], *, plain: bool) -> Table:
    """Every noise with its controls, learned ones first; `plain` leaves out lines and colours."""
    table = Table(box=None if plain else box.ROUNDED)
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for rows in groups(model):
        for row, control in rows:
            table.add_row(*(Text(_ascii(text)) for text in row), style="dim" if control else None)
        table.add_section()
    return table


def groups(model: Mapping[str, Any]) -> Iterator[list[tuple[Row, bool]]]:
    """Rows (cells, is it a control) of kernel noise, of learned noise, of marked images."""
    kernel, noise, mark = (model.get(name) or {} for name in ("kernel", "noise", "watermark"))
    yield condition_rows(kernel.get("conditions"), KERNEL_CONDITIONS)
    yield condition_rows(noise.get("conditions"), NOISE_CONDITIONS)
    if not wording.why_missing(mark):
        yield condition_rows({"marked": mark, **(mark.get("controls") or {})}, wording.MARK_CONDITIONS)


def condition_rows(conditions: Any, labels: Mapping[str, str]) -> list[tuple[Row, bool]]:
    """A row per condition; none when nothing was measured."""
    if wording.why_missing(conditions):
        return []
    names = [name for name in (*labels, *(key for key in conditions if key not in labels)) if name in conditions]
    return [(outcome_row(labels.get(name, name), conditions[name]), name in wording.FOR_COMPARISON) for name in names]


def outcome_row(title: str, outcome: Mapping[str, Any]) -> Row:
    """Agreement, interval, n and largest logit change of one condition."""
    return (
        title,
        percent(outcome.get("agreement")),
        percent_interval(outcome.get("agreement_ci")),
        number(outcome.get("n")),
        number(outcome.get("max_abs_logit_change")),
    )


def _ascii(text: str) -> str:
    """A Windows pipe or LANG=C can print neither a dash nor an infinity sign."""
    return text.replace(wording.MISSING, "-").replace("∞", "inf")
