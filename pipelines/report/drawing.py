"""The figures of a report as PNG bytes. Each call makes its own matplotlib Figure; pyplot and its state stay out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from pipelines.wording import CONTROLS, NOISE_CONDITIONS, is_number, percent

WIDTH = 5.2  # inches: at this width the text stays readable on a phone and two figures stand side by side on a desk
MEASURES = {"radius": "largest unnoticed relative norm", "loss": "loss"}
MOST_CURVES = 60  # more lines than that are a grey area, and a large search would take seconds to draw


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


def spectrum(
    sigma: Sequence[float] | np.ndarray, tolerance: float, *, patch_dim: int | None = None, theme: Theme = LIGHT
) -> bytes:
    """Singular values (log scale) of the patch embedding and the tolerance; directions that count as kernel are shaded.

    `patch_dim` (3·p·p) is the number of directions; those beyond len(sigma) have no singular value at all.
    """
    values = np.sort(np.asarray(sigma, dtype=np.float64))[::-1]
    rank, directions = int((values > tolerance).sum()), max(patch_dim or 0, len(values))
    figure, axes = canvas(theme)
    if directions > rank:
        axes.axvspan(rank + 0.5, directions + 0.5, color=theme.shade, zorder=0)
        axes.text(
            (rank + directions) / 2 + 0.5, 0.94, f"kernel: {directions - rank:,}", transform=axes.get_xaxis_transform(),
            ha="center", va="top", color=theme.accent, fontsize=10,
        )  # fmt: skip
    shown = np.maximum(values, tolerance * 1e-2)  # an exact zero has no place on a log scale
    axes.plot(np.arange(1, len(values) + 1), shown, color=theme.accent, linewidth=2)
    axes.axhline(tolerance, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(1, tolerance, f" tolerance {tolerance:.1e}", color=theme.muted, fontsize=9, va="bottom", ha="left")
    axes.set(yscale="log", xlim=(0.5, directions + 0.5), xlabel="direction of a patch", ylabel="singular value")
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.set_ylim(tolerance * 5e-3, float(values.max(initial=tolerance)) * 10)
    return to_png(figure, theme)


def agreement_bars(
    conditions: Mapping[str, Mapping[str, Any]], *, labels: Mapping[str, str] = NOISE_CONDITIONS, theme: Theme = LIGHT
) -> bytes:
    """Share of unchanged predictions per condition with its 95 % interval; controls are grey."""
    names = [name for name in (*labels, *conditions) if name in conditions and is_number(conditions[name]["agreement"])]
    names = list(dict.fromkeys(names))
    figure, axes = canvas(theme, height=0.9 + 0.62 * len(names))
    for row, name in enumerate(names):
        share, ends = conditions[name]["agreement"], conditions[name].get("agreement_ci")
        axes.barh(row, share, height=0.34, color=theme.control if name in CONTROLS else theme.accent)
        if ends:
            axes.plot(ends, [row, row], color=theme.ink, linewidth=1.6, solid_capstyle="butt")
            axes.plot(ends, [row, row], color=theme.ink, linestyle="none", marker="|", markersize=7)
        axes.text(0, row - 0.27, labels.get(name, name), va="bottom", color=theme.ink, fontsize=10)
        axes.text(1, row - 0.27, percent(share), va="bottom", ha="right", color=theme.ink, fontsize=10)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.6, -0.75), xlabel="predictions unchanged")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_locator(NullLocator())
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return to_png(figure, theme)


def search_curves(
    curves: pd.DataFrame, *, column: str = "radius", best: str | None = None, theme: Theme = LIGHT
) -> bytes:
    """One measure of every trial over its steps, the best trial in colour. Columns: trial_id, step, `column`."""
    figure, axes = canvas(theme)
    trials = {str(name): rows.sort_values("step") for name, rows in curves.groupby("trial_id", sort=False)}
    for name in [name for name in trials if name != best][:MOST_CURVES]:
        _curve(axes, trials[name], column, color=theme.control, linewidth=1, alpha=0.65)
    if best in trials:
        _curve(axes, trials[best], column, color=theme.accent, linewidth=2.2, label="best trial")
        axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink)
    values = curves[column].to_numpy(dtype=float)
    if column == "loss" and np.nanmin(values, initial=np.inf) > 0 and np.isfinite(values).any():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="step", ylabel=MEASURES.get(column, column))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return to_png(figure, theme)


def _curve(axes: Axes, rows: pd.DataFrame, column: str, **style: Any) -> None:
    points = rows[["step", column]].dropna()
    marker = "o" if len(points) == 1 else None  # a trial stopped at its first report is a point, not an invisible line
    axes.plot(points["step"], points[column], marker=marker, markersize=3, **style)


def trials_scatter(trials: pd.DataFrame, *, best: str | None = None, theme: Theme = LIGHT) -> bytes:
    """Radius of every trial over the norm it held while learning, coloured by learning rate; the best is ringed.

    Columns: trial_id, relative_norm, learning_rate, radius. Failed trials have no radius and are left out.
    """
    figure, axes = canvas(theme)
    shown = trials.dropna(subset=["relative_norm", "radius"])
    rates = shown["learning_rate"].to_numpy(dtype=float)
    norm = LogNorm(rates.min(), rates.max()) if len(rates) and 0 < rates.min() < rates.max() else None
    scale = ListedColormap(colormaps["viridis"](np.linspace(*theme.scale, 256)))
    points = axes.scatter(
        shown["relative_norm"], shown["radius"], c=rates, cmap=scale, norm=norm, s=60, edgecolors=theme.surface
    )
    ringed = shown[shown["trial_id"].astype(str) == best]
    axes.scatter(
        ringed["relative_norm"], ringed["radius"], s=150, facecolors="none", edgecolors=theme.ink, linewidths=1.6,
        label="best trial",
    )  # fmt: skip
    if norm is not None:
        bar = figure.colorbar(points, ax=axes, pad=0.02, aspect=28)
        bar.set_label("learning rate", color=theme.muted, fontsize=10)
        bar.ax.tick_params(which="both", colors=theme.muted, labelsize=9)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]  matplotlib's stub calls it a dict of spines
    if len(ringed):
        axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink)
    axes.set(xlabel="norm held while learning, relative to the token norm", ylabel=MEASURES["radius"])
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
