"""What is said of brightness: the share of predictions unchanged."""

from __future__ import annotations

from pipelines.report.parts import Cell, Section, share_cell, stability_table
from pipelines.report.view import Row, StageReport, StageView, rows_of

TITLE = "A step of brightness"
LABELS = {"brighter": "brighter", "darker": "darker", "unchanged": "the same picture"}
CONTROLS = ("unchanged",)


def _section(view: StageView) -> Section:
    conditions = view.result.conditions
    return Section(TITLE, tables=[stability_table("Brighter and darker", conditions, LABELS, controls=CONTROLS)])


def _rows(view: StageView) -> list[Row]:
    return rows_of(view.result.conditions, LABELS, CONTROLS)


def _brighter(view: StageView) -> Cell:
    return share_cell(view.result.conditions.get("brighter"))


REPORT = StageReport(name="brightness", title=TITLE, section=_section, rows=_rows, columns={"Brighter": _brighter})
