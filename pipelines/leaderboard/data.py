"""The boards as JSON for programs, and a model's figures in the form that Hugging Face reads from its repository."""

from __future__ import annotations

from typing import Any

from pipelines.leaderboard.boards import Board, Column, Row
from pipelines.report.outcomes import Mean, Share
from pipelines.report.parts import Cell
from pipelines.report.protocol import PROTOCOL


def boards_json(boards: list[Board]) -> dict[str, Any]:
    """All boards: images, columns, and for each model what it was and its cells by title."""
    return {"protocol": PROTOCOL, "boards": [_board(board) for board in boards]}


def _board(board: Board) -> dict[str, Any]:
    return {
        "images": {"count": board.images.count, "contents": board.images.contents, "seed": board.images.seed},
        "columns": [
            {"title": each.title, "stage": each.stage, **({"how": each.note} if each.note else {})}
            for each in board.columns
        ],
        "models": [_row(row, board.columns) for row in board.rows],
    }


def _row(row: Row, columns: list[Column]) -> dict[str, Any]:
    entry, model = row.entry, row.entry.model.results.below("model")
    return {
        "name": row.name,
        "model": {key: model.content.get(key) for key in ("name", "weights_source", "weights_sha256", "args")},
        "run": {key: entry.run[key] for key in ("experiment", "run_id")},
        "figures": {
            column.title: figure_json(cell)
            for column, cell in zip(columns, row.cells, strict=True)
            if cell.figure is not None
        },
    }


def figure_json(cell: Cell) -> dict[str, Any]:
    """A figure with what is known of it: value, 95 % interval, number of images."""
    assert cell.figure is not None
    found = {"value": cell.figure.value, "low": cell.figure.low, "high": cell.figure.high, "n": cell.n}
    return {name: value for name, value in found.items() if value is not None}


def hub_results(row: Row, columns: list[Column], dataset: str) -> list[dict[str, Any]]:
    """A model's figures as entries of a file in the folder `.eval_results` of its repository on Hugging Face.

    `dataset` is the benchmark's data set there (docs/hub/eval-results of Hugging Face); each column is a task of it.
    Shares are in percent.
    """
    version = ((row.entry.results.get("environment") or {}).get("versions") or {}).get("nullspace-vit") or ""
    return [
        {
            "dataset": {"id": dataset, "task_id": task(column.title)},
            "value": _value(cell.figure),
            "notes": _notes(column, cell, row, version),
        }
        for column, cell in zip(columns, row.cells, strict=True)
        if cell.figure is not None
    ]


def task(title: str) -> str:
    """A title as the name of a task: 'Kernel noise' is kernel_noise."""
    words = "".join(letter if letter.isalnum() else " " for letter in title.lower()).split()
    return "_".join(words)


def _value(figure: Mean) -> float:
    return round(100 * figure.value, 4) if isinstance(figure, Share) else figure.value


def _notes(column: Column, cell: Cell, row: Row, version: str) -> str:
    assert cell.figure is not None
    images = row.entry.images
    words = [
        f"95 % interval {cell.figure.interval}" if cell.figure.interval else "",
        f"n = {cell.n}" if cell.n is not None else "",
        f"images {images.contents[:12]}, seed {images.seed}",
        f"nullspace {version}".strip(),
        f"protocol {PROTOCOL}",
        column.note,
    ]
    return "; ".join(word for word in words if word)
