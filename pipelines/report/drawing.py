"""The figures of a report as PNG bytes. Each call makes its own matplotlib Figure; pyplot and its state stay out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import NullLocator, PercentFormatter

from pipelines.report.outcomes import CONTROLS, Outcome, in_order

WIDTH = 5.2  # inches: at this width the text stays readable on a phone and two figures stand side by side on a desk


@dataclass(frozen=True)
class Theme:
    """Colours of one figure, for a light or a dark page."""

    surface: str
    ink: str
    muted: str
    grid: str
    accent: str
    control: str
    shade: str
    scale: tuple[float, float]  # the part of viridis that stands out from the surface


LIGHT = Theme("#ffffff", "#1f2430", "#5d6575", "#e3e6ec", "#1f62c9", "#9aa3b2", "#eaf1fc", (0.0, 0.88))
DARK = Theme("#191c23", "#e7eaf0", "#a0a8b8", "#303642", "#6ea4ff", "#7b8496", "#20304c", (0.28, 1.0))


def agreement_bars(conditions: Mapping[str, Outcome], *, labels: Mapping[str, str], theme: Theme = LIGHT) -> bytes:
    """Share of unchanged predictions per condition with its 95 % interval; controls are grey."""
    named = [(name, conditions[name].agreement) for name in in_order(conditions, labels)]
    shares = [(name, share) for name, share in named if share is not None]
    figure, axes = canvas(theme, height=0.9 + 0.62 * len(shares))
    for row, (name, share) in enumerate(shares):
        axes.barh(row, share.value, height=0.34, color=theme.control if name in CONTROLS else theme.accent)
        if share.low is not None and share.high is not None:
            ends = (share.low, share.high)
            axes.plot(ends, [row, row], color=theme.ink, linewidth=1.6, solid_capstyle="butt")
            axes.plot(ends, [row, row], color=theme.ink, linestyle="none", marker="|", markersize=7)
        axes.text(0, row - 0.27, labels.get(name, name), va="bottom", color=theme.ink, fontsize=10)
        axes.text(1, row - 0.27, share.text, va="bottom", ha="right", color=theme.ink, fontsize=10)
    axes.set(xlim=(0, 1), ylim=(len(shares) - 0.6, -0.75), xlabel="predictions unchanged")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return to_png(figure, theme)


def image_grid(rows: Sequence[Mapping[str, Path]], columns: Sequence[str], *, theme: Theme = LIGHT) -> bytes:
    """Example pictures side by side, one image per row, `columns` as headings."""
    figure = Figure(figsize=(1.6 * len(columns), 1.6 * len(rows) + 0.3), layout="constrained")
    cells = figure.subplots(len(rows), len(columns), squeeze=False)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cells[i, j].set_axis_off()
            if column in row:
                picture = imread(row[column])
                grey = {"cmap": "gray"} if picture.ndim == 2 else {}
                cells[i, j].imshow(picture, interpolation="nearest", **grey)
            if i == 0:
                cells[i, j].set_title(column.replace("_", " "), color=theme.ink, fontsize=10)
    return to_png(figure, theme)


def canvas(theme: Theme, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure of the report's width (inches) with one plain set of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    dress(axes, theme)
    return figure, axes


def dress(axes: Axes, theme: Theme) -> None:
    """Quiet axes: no box, thin grid, muted ticks."""
    axes.set_facecolor(theme.surface)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.grid)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=theme.muted, labelsize=9, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.muted, fontsize=10)


def to_png(figure: Figure, theme: Theme) -> bytes:
    """The figure as PNG bytes, the same bytes for the same data."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor=theme.surface, metadata={"Software": None})
    return buffer.getvalue()
