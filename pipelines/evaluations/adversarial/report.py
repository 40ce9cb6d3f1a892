"""Report on attacks: how many images stay robust, what breaks the others, how small a change is enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pipelines import wording
from pipelines.evaluations.adversarial.settings import AdversarialSettings
from pipelines.evaluations.adversarial.ways import CONFINED, CONTROLS, SMALLEST, Way, shown, ways_of
from pipelines.report.outcomes import Outcome, Share
from pipelines.report.parts import Cell, ReportFigure, Section, Table, Tile, cell_of
from pipelines.report.view import NamedOutcome, Result, StageReport, StageView

if TYPE_CHECKING:  # matplotlib, when something is drawn
    from pipelines.report.drawing import Theme

TITLE = "Attacks"
_BREAKERS = {
    "clean": "no attack: wrong as it is",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "apgd_ce": "APGD, cross-entropy",
    "apgd_t": "APGD, targeted",
    "fab_t": "FAB, targeted",
    "square": "Square",
}
_SIZES = {
    "median_smallest_l2": "Smallest adversarial",
    "median_invisible_l2": "Largest invisible",
    "median_invisible_over_smallest": "Invisible over adversarial",
}


def section(view: StageView) -> Section:
    found = view.result
    tables = [_robust(found), _broken(found), *_sizes(found)]
    way = shown(_settings(found))
    titles = {way.name: f"attacked, {way.title}", f"{way.name}_difference": "its change, amplified"}
    return Section(TITLE, facts=list(_facts()), tables=tables, pictures=view.examples(), picture_titles=titles)


def _facts() -> Iterator[tuple[str, str]]:
    """How the tables are read."""
    yield "Robust", "taken for its label after every attack; an image that is wrong as it is counts as not robust"
    yield "Without a label", "the clean prediction takes its place"
    yield "In the kernel", "no attack can succeed there, and noise added there changes no verdict"
    yield "Passes", "of the network for each image, up to this ε; images broken at a smaller one cost nothing more"


def _settings(found: Result) -> AdversarialSettings:
    return AdversarialSettings.of_result(found.below("settings").content)


def _ways(found: Result) -> list[Way]:
    return [way for way in ways_of(_settings(found)) if way.name in found.conditions]


def _robust(found: Result) -> Table:
    """A row for every size, and below it what stands beside the attack."""
    rows, muted = [], []
    for way in _ways(found):
        for what, title in (("", way.title), *CONTROLS.items(), *CONFINED.items()):
            outcome = found.conditions.get(way.condition(what) if what else way.name)
            if outcome is not None:
                rows.append([Cell(title), *_row(outcome)])
                muted.append(bool(what))
    columns = ["Change", "Robust", "n", "Prediction unchanged", "Passes forward", "Passes backward"]
    return Table("Taken for their label after every attack", columns, rows, muted)


def _row(outcome: Outcome) -> list[Cell]:
    shares = [outcome.share("robust"), outcome.agreement]
    robust, kept = (Cell(wording.MISSING) if each is None else Cell(each.text, each.interval) for each in shares)
    passes = (Cell(wording.format_number(outcome.numbers.get(name))) for name in ("forwards", "backwards"))
    return [robust, Cell(wording.format_number(outcome.n)), kept, *passes]


def _broken(found: Result) -> Table:
    """How many images each attack was the first to break."""
    rows = []
    for way in _ways(found):
        numbers = found.conditions[way.name].numbers
        counts = (wording.format_number(numbers.get(f"by_{name}", 0)) for name in _BREAKERS)
        rows.append([Cell(way.title), *map(Cell, counts)])
    return Table("Images broken, each by the first attack that did", ["Change", *_BREAKERS.values()], rows)


def _sizes(found: Result) -> Iterator[Table]:
    """The smallest change that is noticed, on one axis with the largest that is not."""
    outcome = found.conditions.get(SMALLEST)
    if outcome is not None:
        row = [Cell("Euclidean length, median"), *(Cell(*outcome.text(name)) for name in _SIZES)]
        yield Table(
            "The smallest change that changes the prediction, the largest in kernel and pixel range",
            ["", *_SIZES.values(), "n"],
            [[*row, Cell(wording.format_number(outcome.n))]],
        )


def sentence(found: Result) -> str:
    """How many stay robust at the size of the headline, beside random signs of that size."""
    way = shown(_settings(found))
    outcome = found.conditions.get(way.name)
    robust = None if outcome is None else outcome.share("robust")
    if outcome is None or robust is None:
        return "Nothing was attacked."
    text = f"{way.title}: {robust.both} of {wording.format_number(outcome.n)} images stay robust"
    signs = found.conditions.get(way.condition("signs"))
    kept = None if signs is None else signs.share("robust")
    return text if kept is None else f"{text}, after random signs of that size {kept.text}"


def _tile(view: StageView) -> Tile:
    cell = _robust_cell(view)
    return Tile(TITLE, cell.text, "robust", sentence(view.result))


def _robust_cell(view: StageView) -> Cell:
    """Of the headline's size, with interval and n."""
    outcome = view.result.conditions.get(shown(_settings(view.result)).name)
    return Cell(wording.MISSING) if outcome is None else cell_of(outcome.share("robust"), outcome.n)


def _outcomes(view: StageView) -> Iterator[NamedOutcome]:
    """Every size, and random signs of that size."""
    found = view.result
    for way in _ways(found):
        yield NamedOutcome(f"attacked: {way.title}", found.conditions[way.name])
        signs = found.conditions.get(way.condition("signs"))
        if signs is not None:
            yield NamedOutcome(f"  {CONTROLS['signs']}", signs, control=True)


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Robust accuracy over ε, one figure for each norm of several sizes, beside random signs."""
    for norm, unit in (("linf", "Linf, of 255"), ("l2", "L2, pixels in [0,1]")):
        curves = curves_of(view.result, norm)
        if any(len(points) > 1 for points in curves.values()):
            yield _figure(norm, unit, curves)


def _figure(norm: str, unit: str, curves: Mapping[str, Mapping[float, Share]]) -> ReportFigure:
    def draw(theme: Theme) -> bytes:
        from pipelines.evaluations.adversarial.figures import robust_curve

        return robust_curve(curves, unit, theme=theme)

    shares = {name: ", ".join(f"{each.text} at {at:g}" for at, each in row.items()) for name, row in curves.items()}
    texts = [f"{name}: {text}" for name, text in shares.items()]
    title = f"Robust accuracy over ε ({unit})"
    return ReportFigure(f"adversarial-{norm}", title, f"Share taken for their label. {'; '.join(texts)}.", draw)


def curves_of(found: Result, norm: str) -> dict[str, dict[float, Share]]:
    """Share taken for their label over ε: after all attacks, and after random signs of that size."""
    curves: dict[str, dict[float, Share]] = {}
    for way in _ways(found):
        for name, condition in (("attacked", way.name), (CONTROLS["signs"], way.condition("signs"))):
            outcome = found.conditions.get(condition)
            share = None if outcome is None else outcome.share("robust")
            if way.norm == norm and share is not None:
                curves.setdefault(name, {})[way.size] = share
    return curves


REPORT = StageReport(
    name="adversarial",
    title=TITLE,
    section=section,
    tile=_tile,
    outcomes=lambda view: list(_outcomes(view)),
    lines=lambda view: [sentence(view.result)],
    columns={"Robust": _robust_cell},
    figures=figures,
    picture_titles={"image": "the image"},
)
