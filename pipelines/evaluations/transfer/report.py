"""Report on one model's noise on others: who notices it, beside controls of equal size."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines import wording
from pipelines.evaluations.transfer.matrix import matrices
from pipelines.evaluations.transfer.ways import KINDS, Way, ways_of
from pipelines.report.outcomes import Outcome
from pipelines.report.parts import (
    Cell,
    ReportFigure,
    Section,
    Table,
    Tile,
    agreement_figure,
    share_cell,
    stability_table,
)
from pipelines.report.view import NamedOutcome, Result, StageReport, StageView

TITLE = "On other models"


def section(view: StageView) -> Section:
    return Section(TITLE, facts=list(_facts(view.result)), tables=list(_tables(view.result)))


def _tables(found: Result) -> Iterator[Table]:
    """For each kind of noise a row for every model and control."""
    for kind, title in KINDS.items():
        labels = {name: words for way in _ways(found, kind) for name, words in way.conditions()}
        shown = {name: found.conditions[name] for name in labels if name in found.conditions}
        if shown:
            controls = [name for way in _ways(found, kind) for name, _ in [*way.conditions()][1:]]
            yield stability_table(f"{title}, and what each model says of it", shown, labels, controls=controls)


def _facts(found: Result) -> Iterator[tuple[str, str]]:
    yield "How it is read", "each model's answers are compared with its own on the clean images"
    without = [way.label for way in _ways(found, "learned") if way.label and way.name not in found.conditions]
    if without and "learned_own" in found.conditions:
        yield "Learned noise not shown to", f"{', '.join(without)}: their tokens have another shape"


def _ways(found: Result, kind: str) -> list[Way]:
    return ways_of(list(found.content.get("others") or []), [kind])


def _least(found: Result) -> tuple[str, Outcome] | None:
    """The other model that notices the noise most, and what becomes of its answers; kernel noise where there is any."""
    for kind in KINDS:
        others = {
            way.label: found.conditions[way.name]
            for way in _ways(found, kind)
            if way.label is not None and way.name in found.conditions
        }
        if others:
            label = min(others, key=lambda name: _agreement(others[name]))
            return label, others[label]
    return None


def _agreement(outcome: Outcome) -> float:
    return 1.0 if outcome.agreement is None else outcome.agreement.value


def sentence(found: Result) -> str:
    """What the model that notices most makes of the noise, beside the model that does not."""
    least = _least(found)
    if least is None:
        return "No other model could be asked."
    label, outcome = least
    own = next((found.conditions[name] for name in ("kernel_own", "learned_own") if name in found.conditions), None)
    here = "" if own is None else f", {own.unchanged} of its own"
    return f"Noise that this model does not notice leaves {outcome.unchanged} of the predictions of {label}{here}."


def tile(view: StageView) -> Tile:
    least = _least(view.result)
    share = None if least is None else least[1].agreement
    return Tile(TITLE, wording.MISSING if share is None else share.text, "unchanged, at least", sentence(view.result))


def outcomes(view: StageView) -> list[NamedOutcome]:
    """For the terminal: the noise of each kind on each model, without controls but the permuted ones."""
    found, named = view.result, []
    for kind in KINDS:
        for way in _ways(found, kind):
            for name, title in [*way.conditions()][:2]:
                if name in found.conditions:
                    named.append(NamedOutcome(title, found.conditions[name], control=name != way.name))
    return named


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Agreement of every model under this one's kernel noise."""
    found = view.result
    labels = {way.name: f"on {way.label or 'itself'}" for kind in KINDS for way in _ways(found, kind)}
    for kind, title in KINDS.items():
        shown = {way.name: found.conditions[way.name] for way in _ways(found, kind) if way.name in found.conditions}
        if len(shown) > 1:
            yield agreement_figure(f"transfer-{kind}", f"{title}, on other models", shown, labels)


def _column(view: StageView) -> Cell:
    least = _least(view.result)
    return share_cell(None if least is None else least[1])


REPORT = StageReport(
    name="transfer",
    title=TITLE,
    section=section,
    tile=tile,
    outcomes=outcomes,
    lines=lambda view: [sentence(view.result)],
    columns={"On others, at least": _column},
    figures=figures,
    across=matrices,
)
