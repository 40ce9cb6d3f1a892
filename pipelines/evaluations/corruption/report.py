"""Report on natural corruptions: errors, predictions unchanged, and the share of each change that no model sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipelines import wording
from pipelines.evaluations.corruption.settings import CorruptionSettings
from pipelines.evaluations.corruption.ways import (
    CHANGE,
    CLEAN,
    ERROR,
    EXCESS,
    KERNEL,
    MCE,
    MEAN,
    RMS,
    at,
    is_whole,
    over_names,
    permuted,
    stored,
)
from pipelines.report.outcomes import Outcome
from pipelines.report.parts import Cell, ReportFigure, Section, Table, Tile, cell_of
from pipelines.report.view import NamedOutcome, Result, StageReport, StageView, agreement_of

if TYPE_CHECKING:  # matplotlib, when something is drawn
    from pipelines.report.drawing import Theme

TITLE = "Natural corruptions"
_COLUMNS = (
    *("Error", "Unchanged", "Unchanged, permuted", "n", "‖Δprobabilities‖²"),
    *("RMS of the change", "Share in the kernel", "Share, permuted"),
)
_STORED_COLUMNS = ("Error, stored files", "Unchanged, stored files")


def section(view: StageView) -> Section:
    found = view.result
    settings = _settings(found)
    kinds = [(_title(name), name) for name in settings.names]
    severities = [(f"severity {each}", over_names(each)) for each in settings.severities]
    cells = [(f"{_title(name)} {each}", at(name, each)) for name in settings.names for each in settings.severities]
    tables = [
        _table(found, "Each corruption, mean over severities", "Corruption", [*kinds, ("all", MEAN)]),
        _table(found, "Each severity, mean over corruptions", "Severity", severities),
        _table(found, "Each corruption at each severity", "Corruption", cells, folded=True),
    ]
    return Section(TITLE, facts=list(_facts(found)), tables=tables, pictures=view.examples())


def _settings(found: Result) -> CorruptionSettings:
    return CorruptionSettings.of_result(found.below("settings").content)


def _title(name: str) -> str:
    return name.replace("_", " ").replace("jpeg", "JPEG")


def _facts(found: Result) -> Iterator[tuple[str, str]]:
    mean = found.conditions[MEAN]
    error, excess = mean.share(ERROR), mean.share(EXCESS)
    if error is None or excess is None:
        yield "Error", "the images have no labels"
    else:
        yield "Mean error", f"{error.both}; of the clean images {_clean(found)}, a difference of {excess.both}"
    yield "mCE, relative to AlexNet", _mce(found, MEAN)
    if stored(MEAN) in found.conditions:
        yield "Stored files, read as they are", _stored_files(found)
    yield "Predictions unchanged", mean.unchanged + _beside(found)
    share = mean.share(KERNEL)
    if share is None:
        yield "Share of the changes in the kernel", "none: the kernel is trivial"
    else:
        white = wording.format_percent(found.value("white_share"))
        yield "Share of the changes in the kernel", f"{share.both}; of white noise {white}, by dimension"
    yield "How it is read", "intervals are over images, of each image's mean over corruptions and severities"


def _beside(found: Result) -> str:
    control = found.conditions.get(permuted(MEAN))
    return "" if control is None else f"; by the same changes permuted {control.unchanged}"


def _clean(found: Result) -> str:
    clean = found.conditions[CLEAN].share(ERROR)
    return wording.MISSING if clean is None else clean.text


def _stored_files(found: Result) -> str:
    """Mean error on files that others corrupted and stored, and mCE."""
    mean = found.conditions[stored(MEAN)]
    error = mean.share(ERROR)
    words = f"mean error {error.both}; " if error is not None else ""
    return f"{words}mCE {_mce(found, stored(MEAN))}; predictions unchanged {mean.unchanged}"


def _mce(found: Result, condition: str) -> str:
    """The figure, or why there is none."""
    mean = found.conditions[condition]
    mce = mean.share(MCE)
    if mce is not None:
        return mce.both
    if ERROR not in mean.means:
        return "not defined: the images have no labels"
    if not is_whole(_settings(found)):
        return "not defined: it needs all 15 corruptions at all 5 severities"
    return "not defined: the model does not have the 1000 classes of ImageNet"


def _table(found: Result, caption: str, head: str, named: Sequence[tuple[str, str]], *, folded: bool = False) -> Table:
    rows = [_row(found, title, condition) for title, condition in named]
    more = _STORED_COLUMNS if stored(MEAN) in found.conditions else ()
    return Table(caption, [head, *_COLUMNS, *more], rows, [False] * len(rows), folded=folded)


def _row(found: Result, title: str, condition: str) -> list[Cell]:
    outcome, control = found.conditions[condition], found.conditions.get(permuted(condition))
    return [
        Cell(title),
        _share(outcome, ERROR),
        _agreement(outcome),
        _agreement(control),
        Cell(wording.format_number(outcome.n)),
        Cell(*outcome.text(CHANGE)),
        Cell(*outcome.text(RMS)),
        _share(outcome, KERNEL),
        Cell(wording.MISSING) if control is None else _share(control, KERNEL),
        *_of_files(found, condition),
    ]


def _of_files(found: Result, condition: str) -> list[Cell]:
    """Error and agreement on stored files, where they were asked."""
    if (outcome := found.conditions.get(stored(condition))) is None:
        return []
    return [_share(outcome, ERROR), _agreement(outcome)]


def _share(outcome: Outcome, name: str) -> Cell:
    share = outcome.share(name)
    return Cell(wording.MISSING) if share is None else Cell(share.text, share.interval)


def _agreement(outcome: Outcome | None) -> Cell:
    share = None if outcome is None else outcome.agreement
    return Cell(wording.MISSING) if share is None else Cell(share.text, share.interval)


def sentence(found: Result) -> str:
    """Mean error beside that of the clean images, and how many predictions stay."""
    mean = found.conditions[MEAN]
    error = mean.share(ERROR)
    wrong = "" if error is None else f"mean error {error.both}, clean {_clean(found)}; "
    return f"{wrong}{mean.unchanged} of predictions unchanged"


def _tile(view: StageView) -> Tile:
    agreement = view.result.conditions[MEAN].agreement
    text = wording.MISSING if agreement is None else agreement.text
    return Tile(TITLE, text, "unchanged", f"Corruptions of ImageNet-C: {sentence(view.result)}.")


def _outcomes(view: StageView) -> list[NamedOutcome]:
    """For the terminal: the mean over all corruptions, its control, and that over stored files."""
    conditions = view.result.conditions
    named = (
        (MEAN, "natural corruptions", False),
        (permuted(MEAN), "their changes, permuted", True),
        (stored(MEAN), "stored corruptions", False),
    )
    return [NamedOutcome(title, conditions[name], control) for name, title, control in named if name in conditions]


def _error_of(condition: str) -> Callable[[StageView], Cell]:
    """A column of the comparison: error under a condition, with interval and the number of labelled images."""

    def cell(view: StageView) -> Cell:
        mean = view.result.conditions.get(condition)
        if mean is None:
            return Cell(wording.MISSING)
        return cell_of(mean.share(ERROR), int(mean.numbers.get("labelled", 0)))

    return cell


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Agreement by corruption and severity."""
    settings, conditions = _settings(view.result), view.result.conditions
    named = {name: [conditions[at(name, each)].agreement for each in settings.severities] for name in settings.names}
    shares = {_title(name): [each.value for each in row if each is not None] for name, row in named.items()}

    def draw(theme: Theme) -> bytes:
        from pipelines.evaluations.corruption.figures import agreement_map

        return agreement_map(list(shares.values()), list(shares), settings.severities, theme=theme)

    texts = [f"{name} {', '.join(wording.format_percent(each) for each in row)}" for name, row in shares.items()]
    text = (
        f"Share of predictions unchanged at severities {', '.join(map(str, settings.severities))}: {'; '.join(texts)}."
    )
    yield ReportFigure("corruption-agreement", "Predictions unchanged by corruption and severity", text, draw)


REPORT = StageReport(
    name="corruption",
    title=TITLE,
    section=section,
    tile=_tile,
    outcomes=_outcomes,
    lines=lambda view: [sentence(view.result)],
    columns={
        "Mean corruption error": _error_of(MEAN),
        "Mean error, stored files": _error_of(stored(MEAN)),
        "Unchanged by corruptions": agreement_of(MEAN),
    },
    figures=figures,
)
