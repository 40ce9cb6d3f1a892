"""The results as text: on a terminal, in a pipe, and as Markdown."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from pipelines.report import terminal
from pipelines.report.model import Model
from pipelines.workflow.order import models_of
from tests.pipelines.report.results import BLIND, SEEING, SKIPPED


def printed(models: list[Model], results: dict[str, Any], **options: Any) -> str:
    console = Console(file=io.StringIO(), **options)
    terminal.render(models, results["warnings"], console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_summary_in_a_pipe_is_plain_text(models: list[Model], results: dict[str, Any]) -> None:
    text = printed(models, results, width=80)
    assert text.isascii() and "\x1b" not in text
    line = next(line for line in text.splitlines() if "learned noise" in line)
    assert line.split("learned noise")[1].split() == ["95.3", "%", "[94.2,", "96.4]", "1,797", "5.79"]
    assert SEEING in text and "the kernel is trivial" in text
    assert text.splitlines()[-1] == f"warning: {BLIND}: labels look <b>wrong</b>"


def test_summary_on_a_terminal_fits_eighty_columns(models: list[Model], results: dict[str, Any]) -> None:
    text = printed(models, results, width=80, force_terminal=True, color_system=None)
    assert max(len(line) for line in text.splitlines() if not line.startswith("warning:")) <= 80
    assert "95.3 %" in text and "╭" in text


def test_summary_as_markdown_has_a_table_for_each_model_with_numbers(
    models: list[Model], results: dict[str, Any]
) -> None:
    text = terminal.as_markdown(models, results["warnings"])
    assert text.startswith(f"**Warning:** {BLIND}: labels look")
    assert "| learned noise | 95.3 % | [94.2, 96.4] | 1,797 | 5.79 |" in text
    assert "| *same noise, permuted* |" in text and "the kernel is trivial" in text
    for table in (part.splitlines() for part in text.split("\n\n") if part.startswith("| Noise |")):
        assert {line.count("|") for line in table} == {len(terminal.COLUMNS) + 1}


def test_markdown_of_several_models_has_their_matrix_and_of_one_none(
    models: list[Model], results: dict[str, Any]
) -> None:
    text = terminal.as_markdown(models, results["warnings"])
    head = next(line for line in text.splitlines() if line.startswith("| Noise of |"))
    assert head == f"| Noise of | on {BLIND} | on {SEEING} |"
    assert f"| {BLIND} | 100 % [99.8, 100] n = 1,797 | 37.0 % [35.0, 39.0] n = 1,797 |" in text
    assert "Noise of" not in terminal.as_markdown(models[:1])


def test_every_stage_has_a_line_under_its_name(models: list[Model]) -> None:
    said = list(terminal.stage_lines(models[0]))
    names = [line[2:21].strip() for line in said]
    assert names == [
        "kernel",
        "kernel noise",
        "search",
        "transfer",
        "fooling",
        "attribution",
        "adversarial",
        "corruption",
        *["visible watermark"] * 2,
        "payload",
    ]
    assert said[0] == "  kernel             96 of 192 directions of a patch"
    read = "8 bytes, 40.3 dB; read after PNG 100 %, JPEG 50 98.0 %, least [97.0, 99.0], n = 600"
    assert said[-1] == f"  payload            {read}"
    skipped = [line for line in terminal.stage_lines(models[1]) if line.endswith(SKIPPED)]
    assert [line[2:21].strip() for line in skipped] == ["kernel noise", "visible watermark", "payload"]


def test_results_alone_are_enough(models: list[Model], results: dict[str, Any]) -> None:
    """`nullspace status` and MLflow's notes have no stage folders at hand."""
    assert terminal.as_markdown(models_of(results)) == terminal.as_markdown(models)
