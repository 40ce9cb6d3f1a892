"""`nullspace zoo`: formats that hold every row, progress on stderr, errors in one line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from nullspace.kernel.zoo import ZooRow
from pipelines.commands.zoo.table import HEADS, STYLES, render
from tests.pipelines.driver import nullspace

ROWS = [
    ZooRow(
        name="deit_tiny_patch16_224",
        weights="random",
        parameters=5_717_416,
        embed_dim=192,
        patch_size=(16, 16),
        patch_dim=768,
        tokens=196,
        rank=192,
        nullity=576,
        per_channel_nullity=192,
        shift_directions=196,
        shift_measured="logits change by 1e-05 of the control",
    ),
    ZooRow(name="wide", weights="random", patch_size=(16, 8), nullity=0, reason='a | b, "c"'),
    ZooRow(name="resnet18", weights="random", reason="expected a model with a patch embedding"),
]


def test_every_style_holds_every_row() -> None:
    for style in STYLES:
        text = render(ROWS, style)
        assert all(row.name in text and row.reason.split(" |")[0] in text for row in ROWS) and text.endswith("\n")


def test_json_and_csv_have_every_field() -> None:
    assert json.loads(render(ROWS, "json")) == [row.to_dict() for row in ROWS]
    read = list(csv.DictReader(io.StringIO(render(ROWS, "csv"))))
    assert [line["name"] for line in read] == [row.name for row in ROWS]
    assert set(read[0]) == set(ROWS[0].to_dict())
    assert (read[0]["patch_size"], read[1]["patch_size"], read[2]["patch_size"]) == ("16", "16x8", "")
    assert read[1]["reason"] == ROWS[1].reason and read[2]["nullity"] == ""


def test_markdown_is_one_table() -> None:
    lines = render(ROWS, "markdown").splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert all(line.replace("\\|", "").count("|") == len(HEADS) + 1 for line in lines)


def test_the_table_is_aligned() -> None:
    lines = render(ROWS, "table").splitlines()
    ends = {line.index(word) + len(word) for line, word in zip(lines, ["3p²", "768"], strict=False)}
    assert len(ends) == 1 and lines[3].split()[1:3] == ["-", "-"]


def test_the_command_shows_progress_and_the_rows() -> None:
    answer = nullspace("zoo", "deit_tiny_*", "--random", "--json")
    rows = json.loads(answer.out)
    assert answer.code == 0
    assert [row["name"] for row in rows] == ["deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224"]
    assert {row["nullity"] for row in rows} == {577} and {row["shift_directions"] for row in rows} == {196}
    assert (
        "1/2  deit_tiny_distilled_patch16_224  nullity 577" in answer.err
        and "2 models, 0 of them refused" in answer.err
    )


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    file = tmp_path / "zoo.md"
    answer = nullspace("zoo", "resnet18", "--random", "--format", "markdown", "--output", str(file))
    assert answer.code == 0 and not answer.out and "1/1  resnet18  refused" in answer.err
    assert "expected a model with a patch embedding, got ResNet" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "missing argument 'PATTERN'; see nullspace zoo --help"),
        (["deit*"], "expected --random or --pretrained, got neither"),
        (["deit*", "--random", "--format", "xml"], "of table, csv, json, markdown, got 'xml'"),
        (["nothing*", "--random"], "which matches none of"),
    ],
)
def test_errors(arguments: list[str], expected: str) -> None:
    answer = nullspace("zoo", *arguments)
    assert answer.is_one_error and expected in answer.err


@pytest.mark.parametrize("arguments", [["--zoo", "deit*", "--random", "--format", "csv"], ["--zoo=deit*"]])
def test_the_former_option_names_the_command(arguments: list[str]) -> None:
    answer = nullspace("kernel", *arguments)
    assert answer.is_one_error and "--zoo is a command of its own: nullspace zoo PATTERN" in answer.err
