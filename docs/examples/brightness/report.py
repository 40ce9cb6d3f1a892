"""What is said of brightness: the share of predictions unchanged."""

from __future__ import annotations

from pipelines.report.parts import Section, stability_table
from pipelines.report.view import StageReport, StageView, agreement_of, outcomes_of

TITLE = "A step of brightness"
LABELS = {"brighter": "brighter", "darker": "darker", "unchanged": "the same picture"}
CONTROLS = ("unchanged",)


def _section(view: StageView) -> Section:
    conditions = view.result.conditions
    return Section(TITLE, tables=[stability_table("Brighter and darker", conditions, LABELS, controls=CONTROLS)])


REPORT = StageReport(
    name="brightness",
    title=TITLE,
    section=_section,
    outcomes=outcomes_of(LABELS, CONTROLS),
    columns={"Brighter": agreement_of("brighter")},
)
