"""Report on fooled pictures: how often the model takes them for the image, and what they look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pipelines import wording
from pipelines.evaluations.fooling.settings import FoolingSettings
from pipelines.evaluations.fooling.ways import CONTROLS, JUDGED, Way, best, judged, ways_of
from pipelines.report.outcomes import Outcome, Share
from pipelines.report.parts import Cell, ReportFigure, Section, Table, Tile, cell_of, share_cell
from pipelines.report.view import NamedOutcome, Result, StageReport, StageView

if TYPE_CHECKING:  # matplotlib, when something is drawn
    from pipelines.report.drawing import Theme

TITLE = "Fooling the network"
_CONTROL_TITLES = {"permuted": "its change, permuted", "signs": "random signs, same size"}
_COLUMNS = {
    "as_look": "Class of the look",
    "median_relative_logits": "‖Δlogits‖², median",
    "median_relative_features": "‖Δfeatures‖², median",
    "nearer_than_pairs": "Nearer than any random pair",
    "confidence_off": "|Δ confidence|",
    "psnr_to_look": "PSNR to the look",
    "ssim_to_look": "SSIM to the look",
    "psnr_to_image": "PSNR to the image",
    "token_difference": "Token difference",
    "passes": "Passes",
}
_SHARES = ("as_look", "nearer_than_pairs")


def section(view: StageView) -> Section:
    found = view.result
    ways = _ways(found)
    tables = [_made(found, ways), _controls(found, ways), _distorted(found, ways), *_judges(found, ways)]
    titles = {way.name: way.title for way in ways}
    titles |= {f"{name}_difference": "its difference, amplified" for name in titles}
    return Section(TITLE, facts=list(_facts()), tables=tables, pictures=view.examples(), picture_titles=titles)


def _facts() -> Iterator[tuple[str, str]]:
    """How the table is read."""
    yield "Pairs", "the model is to see the image, people are to see the look: another image of a different class"
    yield "‖Δ‖²", "squared distance to what the model says of the image, over that between image and look"
    yield "Random pairs", "ten for each image; none of them is nearer in features"
    yield "One change for all", "learned from other images, added to the image itself; the look is the yardstick alone"
    yield "Exact", "nearest picture to the look within kernel and pixel range; people still recognise the image"


def _ways(found: Result) -> list[Way]:
    settings = FoolingSettings.of_result(found.below("settings").content)
    made = found.conditions
    return [way for way in ways_of(settings, kernel=True, universal=True) if way.name in made]


def _made(found: Result, ways: list[Way]) -> Table:
    rows = [_row(way.title, found.conditions[way.name]) for way in ways]
    columns = ["Picture", "Class of the image", "n", *_COLUMNS.values()]
    return Table("Fooled pictures, 8-bit pixels: what the model says, what they look like", columns, rows)


def _row(title: str, outcome: Outcome) -> list[Cell]:
    own = share_cell(outcome)
    cells = [_cell(outcome, name) for name in _COLUMNS]
    return [Cell(title), Cell(own.text, own.detail.partition("\n")[0]), Cell(wording.format_number(outcome.n)), *cells]


def _cell(outcome: Outcome, name: str) -> Cell:
    share = outcome.share(name) if name in _SHARES else None
    return Cell(*outcome.text(name)) if share is None else Cell(share.text, share.interval)


def _controls(found: Result, ways: list[Way]) -> Table:
    """A way and its controls in three rows each: what the same size does without the direction."""
    rows, muted = [], []
    for way in ways:
        for what, title in (("", way.title), *((name, _CONTROL_TITLES[name]) for name in CONTROLS)):
            outcome = found.conditions.get(way.condition(what) if what else way.name)
            if outcome is not None:
                rows.append([Cell(title), *_classes(outcome)])
                muted.append(bool(what))
    return Table("Beside controls of equal size", ["Picture", *_CLASSES], rows, muted)


_CLASSES = ("Class of the image", "Class of the look", "n")


def _classes(outcome: Outcome) -> list[Cell]:
    shares = [outcome.agreement, outcome.share("as_look")]
    cells = [Cell(wording.MISSING) if share is None else Cell(share.text, share.interval) for share in shares]
    return [*cells, Cell(wording.format_number(outcome.n))]


def _distorted(found: Result, ways: list[Way]) -> Table:
    names = list(found.below("settings").content.get("distortions") or [])
    rows = [
        [Cell(way.title), *(share_cell(found.conditions.get(way.condition(name))) for name in names)] for way in ways
    ]
    titles = [name.replace("_", " ") for name in names]
    return Table("Class of the image after distortions", ["Picture", *titles], rows, folded=True)


def _judges(found: Result, ways: list[Way]) -> Iterator[Table]:
    """What each other model sees in the pictures."""
    for label in found.below("settings").content.get("judges") or []:
        outcomes = {way: found.conditions[way.name] for way in ways}
        rows = [[Cell(way.title), *_judged(each, label)] for way, each in outcomes.items()]
        if any(cell.text != wording.MISSING for row in rows for cell in row[1:]):
            columns = ["Picture", "the image", "the look", "something else"]
            yield Table(f"What {label} sees in them, of the pairs it tells apart", columns, rows)


def _judged(outcome: Outcome, label: str) -> list[Cell]:
    shares = [outcome.share(judged(label, name)) for name in JUDGED]
    return [Cell(wording.MISSING) if share is None else Cell(share.text, share.interval) for share in shares]


def sentence(found: Result) -> str:
    """How often the model takes one picture for another, and how near that picture is to the other."""
    way = best(_ways(found))
    if way is None:
        return "Nothing was asked."
    outcome = found.conditions[way.name]
    taken = f"taken for another image in {outcome.unchanged} of {wording.format_number(outcome.n)} pairs"
    near = "" if way.epsilon is None else f", {outcome.decibel('psnr_to_look')}"
    return f"{way.title}{near}: {taken}"


def _tile(view: StageView) -> Tile:
    way = best(_ways(view.result))
    share = None if way is None else view.result.conditions[way.name].agreement
    return Tile(TITLE, wording.MISSING if share is None else share.text, "fooled", sentence(view.result))


def _outcomes(view: StageView) -> Iterator[NamedOutcome]:
    """Every way, and the permuted control of each."""
    found = view.result
    for way in _ways(found):
        title = way.title if way.universal is not None else f"fooled: {way.title}"
        yield NamedOutcome(title, found.conditions[way.name])
        control = found.conditions.get(way.condition("permuted"))
        if control is not None:
            yield NamedOutcome("  its change, permuted", control, control=True)


def _best_cell(view: StageView) -> Cell:
    way = best(_ways(view.result))
    if way is None:
        return Cell(wording.MISSING)
    outcome = view.result.conditions[way.name]
    return cell_of(outcome.agreement, outcome.n)


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Success over ε, for every depth, beside the permuted control."""
    curves = curves_of(view.result)
    if not any(len(points) > 1 for points in curves.values()):
        return

    def draw(theme: Theme) -> bytes:
        from pipelines.evaluations.fooling.figures import success_curves

        return success_curves(curves, theme=theme)

    texts = [
        f"{name}: " + ", ".join(f"{each.text} at {eps:g}" for eps, each in row.items()) for name, row in curves.items()
    ]
    yield ReportFigure("fooling-epsilon", "Fooled over ε", f"Share of pairs by ε/255. {'; '.join(texts)}.", draw)


def curves_of(found: Result) -> dict[str, Mapping[float, Share]]:
    """Share taken for the image over ε, by depth and for the permuted control of each."""
    curves: dict[str, dict[float, Share]] = {}
    for way in _ways(found):
        if way.epsilon is None:
            continue
        for name, condition in ((way.at, way.name), (f"{way.at}, permuted", way.condition("permuted"))):
            outcome = found.conditions.get(condition)
            if outcome is not None and outcome.agreement is not None:
                curves.setdefault(name, {})[way.epsilon] = outcome.agreement
    return dict(curves)


REPORT = StageReport(
    name="fooling",
    title=TITLE,
    section=section,
    tile=_tile,
    outcomes=lambda view: list(_outcomes(view)),
    lines=lambda view: [sentence(view.result)],
    columns={"Fooled": _best_cell},
    figures=figures,
    picture_titles={"image": "the image", "look": "the look"},
)
