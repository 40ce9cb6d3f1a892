"""The report on explanations: what the kernel's noise can change in each, what search can, what a map is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines import wording
from pipelines.evaluations.attribution.settings import AttributionSettings
from pipelines.evaluations.attribution.ways import (
    CLEAN,
    LIKENESS,
    PIXEL_MAP,
    PIXEL_PICTURE,
    PIXELS,
    RANDOM,
    RANDOM_MAP,
    STEERED,
    WORDS,
    Way,
    control,
    controls_of,
    map_picture,
    picture,
    ways_of,
)
from pipelines.report.outcomes import Mean, Outcome
from pipelines.report.parts import Cell, ReportFigure, Section, Table, Tile
from pipelines.report.view import NamedOutcome, Result, StageReport, StageView, agreement_of

if TYPE_CHECKING:  # matplotlib, when something is drawn
    from pipelines.report.drawing import Theme

TITLE = "Fooling the explanation"
_MEASURES = {
    "spearman": "Rank correlation of each map with that of the image, over tokens",
    "top": "Share of the largest quarter of tokens that stays (by chance 25 %)",
    "pearson": "Correlation",
    "ssim": "SSIM of the maps as drawn",
    "centre": "Shift of a map's centre, pixels",
}
_SUMS = ("input_times_gradient", "integrated_gradients")


def section(view: StageView) -> Section:
    found = view.result
    ways = _ways(found)
    tables = [_likeness(found, ways, measure, folded=measure != "spearman") for measure in LIKENESS]
    tables += [*_goals(found, ways), *_pixels(found), _deletion(found)]
    titles, pictures = _titles(ways), view.examples()
    pictures = replace(pictures, columns=[name for name in titles if name in pictures.columns])
    return Section(TITLE, facts=list(_verdicts(found)), tables=tables, pictures=pictures, picture_titles=titles)


def _verdicts(found: Result) -> Iterator[tuple[str, str]]:
    """For each map a sentence: whether noise in the kernel can change it, and at which size search does."""
    for name in _maps(found):
        yield WORDS[name], f"{_by_kernel(found, name)}; {_by_search(found, name)}"
    yield (
        "How it is read",
        "1: the map is as it was; 0: nothing of it is left; the class that is explained is the clean one",
    )


def _by_kernel(found: Result, name: str) -> str:
    steered = _mean(found, STEERED.name, f"spearman_{name}")
    if steered is None:
        return "there is no noise in the kernel"
    held = f"noise in the kernel cannot change it (rank correlation {steered.text})"
    if name not in _SUMS:
        return held
    pixels = _mean(found, STEERED.name, PIXELS)
    stays = (
        "" if pixels is None or name != PIXEL_MAP else f": {wording.format_percent(pixels.value)} of its largest stay"
    )
    return f"{held} over tokens, and pixel by pixel it does{stays}"


def _by_search(found: Result, name: str) -> str:
    moved = [way for way in _ways(found) if way.kind == "search" and way.map == name and way.goal == "away"]
    own = [way for way in moved if not way.control]
    if not own:
        return "no noise was searched for"
    texts = []
    for way in own:
        outcome, mean = found.conditions[way.name], _mean(found, way.name, f"spearman_{name}")
        size = f"{way.epsilon:g}/255" if way.epsilon is not None else f"{way.relative_norm:g} token norms"
        if mean is not None:
            texts.append(f"{mean.both} at {size} ({outcome.unchanged} of predictions unchanged)")
    return f"search moves it to {', '.join(texts)}"


def _ways(found: Result) -> list[Way]:
    settings = _settings(found)
    return [way for way in ways_of(settings, kernel=True, learned=True) if way.name in found.conditions]


def _settings(found: Result) -> AttributionSettings:
    return AttributionSettings.of_result(found.below("settings").content)


def _maps(found: Result) -> list[str]:
    """The maps that the model has."""
    random = found.conditions.get(RANDOM_MAP.name)
    return [name for name in _settings(found).maps if random is not None and f"spearman_{name}" in random.means]


def _mean(found: Result, condition: str, name: str) -> Mean | None:
    outcome = found.conditions.get(condition)
    return None if outcome is None else outcome.means.get(name)


def _likeness(found: Result, ways: list[Way], measure: str, *, folded: bool) -> Table:
    """A row for each condition but the clean one, a column for each map."""
    maps, shown = _maps(found), [way for way in ways if way is not CLEAN]
    rows = [
        [
            Cell(way.title),
            *_outcome(found.conditions[way.name]),
            *(_cell(found, way, f"{measure}_{name}") for name in maps),
        ]
        for way in shown
    ]
    columns = ["Noise", "Unchanged", "n", "‖Δprobabilities‖²", *(WORDS[name] for name in maps)]
    return Table(_MEASURES[measure], columns, rows, [way.control for way in shown], folded=folded)


def _outcome(outcome: Outcome) -> list[Cell]:
    share = outcome.agreement
    unchanged = Cell(wording.MISSING) if share is None else Cell(share.text, share.interval)
    return [unchanged, Cell(wording.format_number(outcome.n)), Cell(*outcome.text("mse_probabilities"))]


def _cell(found: Result, way: Way, name: str) -> Cell:
    mean = _mean(found, way.name, name)
    return Cell(wording.MISSING) if mean is None else Cell(mean.text, mean.interval, mean, found.conditions[way.name].n)


def _goals(found: Result, ways: list[Way]) -> Iterator[Table]:
    """Searches for a wanted map: how near they came, beside their controls."""
    shown = [way for way in ways if way.goal != "away"]
    if shown:
        rows = [
            [
                Cell(way.title),
                *_outcome(found.conditions[way.name]),
                *(_cell(found, way, f"{m}_goal") for m in LIKENESS),
            ]
            for way in shown
        ]
        columns = ["Noise", "Unchanged", "n", "‖Δprobabilities‖²", "Rank correlation", "Largest quarter", "Correlation",
                   "SSIM", "Centre, pixels"]  # fmt: skip
        yield Table("Likeness to the wanted map", columns, rows, [way.control for way in shown])


def _pixels(found: Result) -> Iterator[Table]:
    """Input × gradient pixel by pixel under noise in the kernel."""
    ways = [STEERED, *(control(STEERED, what) for what in controls_of(STEERED))]
    shown = [way for way in ways if _mean(found, way.name, PIXELS) is not None]
    if shown:
        share = wording.format_percent(_settings(found).largest_pixels)
        rows = [[Cell(way.title), *_outcome(found.conditions[way.name]), _cell(found, way, PIXELS)] for way in shown]
        columns = ["Noise", "Unchanged", "n", "‖Δprobabilities‖²", "stay"]
        caption = f"Of the {share} of pixels with the largest {WORDS[PIXEL_MAP]}, how many stay among them (share)"
        yield Table(caption, columns, rows, [way.control for way in shown])


def _deletion(found: Result) -> Table:
    """Area under the deletion curve: what a map is worth, and that cuts across patches see the kernel's noise."""
    rows = []
    for name in _maps(found):
        places = [(way, condition) for condition in (CLEAN, STEERED) for way in ("along", "across")]
        rows.append(
            [Cell(WORDS[name]), *(_cell(found, condition, f"deletion_{way}_{name}") for way, condition in places)]
        )
    random = [_cell(found, RANDOM_MAP, f"deletion_{way}_{RANDOM}") for way in ("along", "across")]
    rows.append([Cell("random order"), *random, Cell(wording.MISSING), Cell(wording.MISSING)])
    caption = (
        "Probability left as what a map calls important is replaced, mean over shares: lower is better. Along patches "
        "noise in the kernel is not seen, across them it is"
    )
    columns = ["Order", "along patches", "across patches", "along, kernel noise", "across, kernel noise"]
    return Table(caption, columns, rows, [False] * (len(rows) - 1) + [True])


def _titles(ways: list[Way]) -> dict[str, str]:
    """What stands above the columns of pictures, in the order of these."""
    titles = {}
    for way in ways:
        titles |= {picture(way): way.title, f"{picture(way)}_difference": "its change, amplified"}
        titles |= {map_picture(way, name): words for name, words in WORDS.items()}
        titles[map_picture(way, PIXEL_PICTURE)] = f"{WORDS[PIXEL_MAP]}, pixels"
    return titles


def best(found: Result) -> Way | None:
    """The search that headlines speak of: the first map away at the least ε, else on tokens."""
    own = [way for way in _ways(found) if way.kind == "search" and not way.control and way.goal == "away"]
    return min(own, key=lambda way: (way.epsilon is None, way.epsilon or 0), default=None)


def sentence(found: Result) -> str:
    """What search does to an explanation beside what it does to predictions; else what the kernel's noise does."""
    way = best(found)
    if way is None:
        mean = _mean(found, STEERED.name, PIXELS)
        if mean is None:
            return "Nothing was asked."
        return f"Noise in the kernel leaves {wording.format_percent(mean.value)} of the largest pixels where they were."
    outcome, mean = found.conditions[way.name], _mean(found, way.name, f"spearman_{way.map}")
    beside = _mean(found, control(way, "signs").name, f"spearman_{way.map}")
    against = "" if beside is None else f", random signs {beside.text}"
    correlation = wording.MISSING if mean is None else mean.both
    unchanged = wording.MISSING if outcome.agreement is None else outcome.agreement.text
    return f"{way.title}: rank correlation {correlation}{against}; {unchanged} unchanged"


def _tile(view: StageView) -> Tile:
    way = best(view.result)
    mean = None if way is None else _mean(view.result, way.name, f"spearman_{way.map}")
    return Tile(TITLE, wording.MISSING if mean is None else mean.text, "rank correlation", sentence(view.result))


def _outcomes(view: StageView) -> list[NamedOutcome]:
    """For the terminal: noise in the kernel, and searches in pixels that move a map, each with its permuted control."""
    found, named = view.result, []
    for way in _ways(found):
        if (way is STEERED or (way.epsilon is not None and way.goal == "away")) and not way.control:
            named.append(NamedOutcome(way.title, found.conditions[way.name]))
            permuted = found.conditions.get(control(way, "permuted").name)
            if permuted is not None:
                named.append(NamedOutcome("  its change, permuted", permuted, control=True))
    return named


def _moved(view: StageView) -> Cell:
    way = best(view.result)
    return Cell(wording.MISSING) if way is None else _cell(view.result, way, f"spearman_{way.map}")


def figures(view: StageView) -> Iterator[ReportFigure]:
    """Rank correlation of every map under each noise."""
    found = view.result
    maps, ways = _maps(found), [way for way in _ways(found) if way is not CLEAN]
    means = {
        name: {way: mean for way in ways if (mean := _mean(found, way.name, f"spearman_{name}")) is not None}
        for name in maps
    }
    if not any(means.values()):
        return

    def draw(theme: Theme) -> bytes:
        from pipelines.evaluations.attribution.figures import likeness_matrix

        return likeness_matrix({WORDS[name]: row for name, row in means.items()}, ways, theme=theme)

    texts = [
        f"{way.title}: " + ", ".join(f"{WORDS[name]} {row[way].text}" for name, row in means.items() if way in row)
        for way in ways
        if not way.control
    ]
    yield ReportFigure("attribution-maps", "What becomes of the maps", f"Rank correlations. {'; '.join(texts)}.", draw)


REPORT = StageReport(
    name="attribution",
    title=TITLE,
    section=section,
    tile=_tile,
    outcomes=_outcomes,
    lines=lambda view: [sentence(view.result)],
    columns={"Map moved": _moved, "Kernel noise that moves pixels": agreement_of(STEERED.name)},
    figures=figures,
    picture_titles={"image": "the image"},
)
