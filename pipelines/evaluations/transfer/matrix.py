"""The noise of every model of a run on every model of it: one table for each kind of noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.evaluations.transfer.ways import KINDS, Way
from pipelines.report.parts import Cell, Table, share_cell
from pipelines.report.view import StageView

_PERMUTED = "_permuted"


def matrices(views: Sequence[StageView]) -> list[Table]:
    """Rows are models whose noise it is, each with the same noise permuted below; columns are models that are asked."""
    return [table for kind, title in KINDS.items() for table in _matrix(kind, title, views)]


def _matrix(kind: str, title: str, views: Sequence[StageView]) -> Iterator[Table]:
    asked = [view for view in views if Way(kind, None).name in view.result.conditions]
    if not asked:
        return
    others = [label for view in views for label in view.result.content.get("others") or []]
    columns = list(dict.fromkeys([*(view.label for view in views), *others]))
    ends = [(view, end) for view in asked for end in ("", _PERMUTED)]
    yield Table(
        f"{title}: share of predictions unchanged on every model, with 95 % interval and n",
        ["Noise of", *(f"on {label}" for label in columns)],
        [[_head(view, end), *(_cell(view, kind, label, end) for label in columns)] for view, end in ends],
        [end == _PERMUTED for _, end in ends],
    )


def _head(view: StageView, end: str) -> Cell:
    return Cell(f"{view.label}, permuted" if end else view.label)


def _cell(view: StageView, kind: str, label: str, end: str) -> Cell:
    """A dash where that model was not asked, or has tokens of another shape."""
    way = Way(kind, None if label == view.label else label)
    return share_cell(view.result.conditions.get(f"{way.name}{end}"))
