"""Report on noise from the kernel: the share of predictions unchanged, beside the controls."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import wording
from pipelines.report.parts import ReportFigure, Section, Tile, agreement_figure, share_tile, stability_table
from pipelines.report.view import Result, StageReport, StageView, agreement_of, outcomes_of

TITLE = "Noise in the kernel"
LABELS = {
    "exact": "kernel noise",
    "in_box": "kernel noise, valid pixels",
    "permuted": "same noise, permuted",
    "gaussian": "Gaussian noise, same norm",
}


def section(view: StageView) -> Section:
    conditions = view.result.conditions
    table = stability_table("Noise in the kernel and its controls", conditions, LABELS)
    return Section(TITLE, tables=[table], pictures=view.examples())


def tile(view: StageView) -> Tile:
    return share_tile("Kernel noise", view.result.conditions["exact"], sentence(view.result))


def sentence(found: Result) -> str:
    """The effect of the noise beside that of its control."""
    exact, control = found.conditions["exact"], found.conditions.get("permuted")
    against = "" if control is None else f", the same noise permuted {control.unchanged}"
    return f"Noise in the kernel leaves {exact.unchanged} of predictions unchanged{against}."


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Agreement under kernel noise and its controls."""
    yield agreement_figure("kernel-agreement", TITLE, view.result.conditions, LABELS)


def lines(view: StageView) -> list[str]:
    """How far 8-bit pixels moved tokens and probabilities."""
    saved = view.result.conditions.get("in_box")
    return [] if saved is None else [wording.saved_in_8_bits(saved.numbers)]


REPORT = StageReport(
    name="kernel_noise",
    title=TITLE,
    section=section,
    tile=tile,
    outcomes=outcomes_of(LABELS),
    lines=lines,
    columns={"Kernel noise": agreement_of("exact")},
    figures=figures,
    picture_titles={
        "exact": "kernel noise (clipped to be shown)",
        "exact_difference": "its difference, amplified",
        "in_box": "kernel noise, valid pixels",
        "in_box_difference": "its difference, amplified",
    },
)
