"""Two columns of a board against each other, a point for each model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.leaderboard.boards import ACCURACY, Board
from pipelines.report.outcomes import Mean, Share
from pipelines.report.parts import ReportFigure

if TYPE_CHECKING:  # matplotlib, when something is drawn
    from pipelines.report.drawing import Theme

RADIUS = "Relative norm"
PAIRS = (("Robust", RADIUS), (ACCURACY, RADIUS), ("Nullity", RADIUS), (ACCURACY, "Mean corruption error"))
"""Titles of columns: across and up."""
_LEAST = 2  # models: a single point shows nothing

Points = dict[str, tuple[Mean, Mean]]


def figures(board: Board) -> Iterator[ReportFigure]:
    """The figures that the board's columns allow."""
    for across, up in PAIRS:
        points = _points(board, across, up)
        if len(points) >= _LEAST:
            yield _figure(across, up, points)


def _points(board: Board, across: str, up: str) -> Points:
    """By name, both figures of every model that has them."""
    pairs = zip(board.rows, board.column(across) or [], board.column(up) or [], strict=False)
    return {row.name: (x.figure, y.figure) for row, x, y in pairs if x.figure is not None and y.figure is not None}


def _figure(across: str, up: str, points: Points) -> ReportFigure:
    texts = "; ".join(f"{name} {x.text} and {y.text}" for name, (x, y) in points.items())
    title = f"{up} against {across[:1].lower()}{across[1:]}"
    name = title.lower().replace(" ", "-")
    alt = f"{title}, a point for each model: {texts}."
    return ReportFigure(name, title, alt, lambda theme: _drawn(across, up, points, theme))


def _drawn(across: str, up: str, points: Points, theme: Theme) -> bytes:
    from matplotlib.ticker import PercentFormatter

    from pipelines.report.drawing import canvas, to_png

    figure, axes = canvas(theme)
    middle = sum(x.value for x, _ in points.values()) / len(points)
    for name, (x, y) in points.items():
        axes.plot(*_ends(x, y.value), color=theme.control, linewidth=1.2)
        axes.plot(*reversed(_ends(y, x.value)), color=theme.control, linewidth=1.2)
        axes.plot(x.value, y.value, marker="o", color=theme.accent)
        side, offset = ("right", (-6, 5)) if x.value > middle else ("left", (6, 5))  # towards the middle: in the figure
        words = {"color": theme.ink, "fontsize": 8, "ha": side}
        axes.annotate(name, (x.value, y.value), xytext=offset, textcoords="offset points", **words)
    axes.set(xlabel=across, ylabel=up)
    axes.margins(0.18)
    for axis, number in ((axes.xaxis, 0), (axes.yaxis, 1)):
        if all(isinstance(pair[number], Share) for pair in points.values()):
            axis.set_major_formatter(PercentFormatter(1))
    return to_png(figure, theme)


def _ends(mean: Mean, at: float) -> tuple[list[float], list[float]]:
    """The interval as a line at the other figure's value; of no length without an interval."""
    ends = (mean.low, mean.high)
    return [mean.value if end is None else end for end in ends], [at, at]
