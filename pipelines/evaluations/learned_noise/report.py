"""Report on the learned noise on new images: the share of predictions unchanged, beside controls."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.report.outcomes import CONTROLS, separated
from pipelines.report.parts import ReportFigure, Section, Tile, agreement_figure, share_tile, stability_table
from pipelines.report.view import Result, StageReport, StageView, agreement_of, outcomes_of

TITLE = "Learned noise on the tokens"
LABELS = {
    "learned": "learned noise",
    "permuted": "same noise, permuted",
    "gaussian": "Gaussian noise, same norm",
}
_IN_PROSE = {"permuted": "the same noise permuted leaves", "gaussian": "Gaussian noise of that norm"}


def section(view: StageView) -> Section:
    table = stability_table("Learned noise and its controls, on test images", view.result.conditions, LABELS)
    facts = [("ε-region, test images", epsilon_verdict(view.result))]
    return Section(TITLE, facts=facts, tables=[table])


def epsilon_verdict(found: Result) -> str:
    """Whether mean ‖Δprobabilities‖² is at most ε: 'inside' only when its whole interval is."""
    change, epsilon = found.conditions["learned"].means["mse_probabilities"], found.value("epsilon") or 0.0
    inside = change.high is not None and change.high <= epsilon
    verdict = "outside" if change.value > epsilon else "inside" if inside else "not shown to be inside"
    return f"{verdict}: ‖Δprobabilities‖² {change.both}, ε = {found.number('epsilon')}"


def tile(view: StageView) -> Tile:
    return share_tile("Learned noise", view.result.conditions["learned"], sentence(view.result))


def sentence(found: Result) -> str:
    """The effect of the learned noise beside its controls, in one or two sentences."""
    learned, conditions = found.conditions["learned"], found.conditions
    controls = [f"{words} {conditions[name].unchanged}" for name, words in _IN_PROSE.items() if name in conditions]
    size = f"{found.number('relative_norm')} times the token norm"
    text = f"Noise {size} leaves {learned.unchanged} of predictions unchanged"
    text += f"; {', '.join(controls)}." if controls else "."
    if False in [separated(learned, conditions[name]) for name in CONTROLS if name in conditions]:
        text += " The intervals overlap: at this norm learned noise is not shown to be better than random noise."
    return text


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Agreement under learned noise and its controls."""
    yield agreement_figure("noise-agreement", "Noise on the tokens", view.result.conditions, LABELS)


REPORT = StageReport(
    name="learned_noise",
    title=TITLE,
    section=section,
    tile=tile,
    outcomes=outcomes_of(LABELS),
    columns={
        "Learned noise": agreement_of("learned"),
        "Permuted": agreement_of("permuted"),
        "Gaussian": agreement_of("gaussian"),
    },
    figures=figures,
)
