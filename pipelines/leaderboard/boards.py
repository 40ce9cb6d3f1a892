"""Which figures may stand in one table, and that table: nothing is averaged, and what differs stands apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.leaderboard.entries import Entry, Images
from pipelines.report.model import columns_of
from pipelines.report.parts import Cell, cell_of
from pipelines.wording import MISSING

ACCURACY = "Clean accuracy"


@dataclass(frozen=True)
class Column:
    """A column: `title` names it, `stage` made its figures, `note` says how where one board has several ways."""

    title: str
    stage: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A model's cells, in the order of the columns."""

    name: str
    entry: Entry
    cells: list[Cell]


@dataclass(frozen=True)
class Board:
    """Models measured on the same images, drawn and split by the same seed."""

    images: Images
    columns: list[Column]
    rows: list[Row]

    def column(self, title: str) -> list[Cell] | None:
        """The cells of a column, or None where there is none of this title."""
        at = next((number for number, column in enumerate(self.columns) if column.title == title), None)
        return None if at is None else [row.cells[at] for row in self.rows]


def boards_of(entries: Sequence[Entry]) -> list[Board]:
    """A board for each set of images, that with most models first."""
    by_images: dict[Images, list[Entry]] = {}
    for entry in entries:
        by_images.setdefault(entry.images, []).append(entry)
    return [_board(images, found) for images, found in sorted(by_images.items(), key=lambda pair: -len(pair[1]))]


def _board(images: Images, entries: list[Entry]) -> Board:
    parts = [_accuracies(entries)] if any(entry.accuracy for entry in entries) else []
    parts += [part for title in columns_of([entry.model for entry in entries]) for part in _columns(title, entries)]
    rows = [
        Row(name, entry, [cells[number] for _, cells in parts])
        for number, (name, entry) in enumerate(zip(_names(entries), entries, strict=True))
    ]
    return Board(images, [column for column, _ in parts], rows)


def _accuracies(entries: list[Entry]) -> tuple[Column, list[Cell]]:
    known = [entry.accuracy for entry in entries]
    return Column(ACCURACY, "reference"), [Cell(MISSING) if each is None else cell_of(*each) for each in known]


def _columns(title: str, entries: list[Entry]) -> list[tuple[Column, list[Cell]]]:
    """The column of this title: one for each way in which its figures were made."""
    (stage,) = {stage.report.name for entry in entries for stage in entry.model.stages if title in stage.report.columns}
    hows = [entry.how(stage) if _fills(entry, stage) else None for entry in entries]
    ways = [how for number, how in enumerate(hows) if how is not None and how not in hows[:number]]
    if len(ways) < 2:
        return [(Column(title, stage), [entry.model.cells([title])[0] for entry in entries])]
    columns = []
    for number, way in enumerate(ways, 1):
        own = ", ".join(f"{key} = {text}" for key, text in way.items() if any(o.get(key) != text for o in ways))
        cells = [
            entry.model.cells([title])[0] if how == way else Cell(MISSING)
            for how, entry in zip(hows, entries, strict=True)
        ]
        columns.append((Column(f"{title} ({number})", stage, own), cells))
    return columns


def _fills(entry: Entry, stage: str) -> bool:
    """Whether a stage of a model has something to say."""
    return any(each.report.name == stage and not each.skipped for each in entry.model.stages)


def _names(entries: list[Entry]) -> list[str]:
    """Labels of models; where two are equal, with what tells their runs apart: experiment, work folder, or id."""
    labels = [entry.model.label for entry in entries]
    names = labels
    for known in ("experiment", "folder", "run_id"):
        own = [entry.source.resolve().parent.name if known == "folder" else str(entry.run[known]) for entry in entries]
        named = [f"{label} ({text})" for label, text in zip(labels, own, strict=True)]
        # Names that are taken twice are tried in the next way, all of a label alike.
        twice = {label for label, name in zip(labels, names, strict=True) if names.count(name) > 1}
        names = [new if label in twice else name for label, name, new in zip(labels, names, named, strict=True)]
    return names
