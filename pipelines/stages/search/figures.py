"""The course of a search and its trials as figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipelines.report.drawing import LIGHT, Theme, canvas, to_png

MEASURES = {"radius": "largest unnoticed relative norm", "loss": "loss"}


MOST_CURVES = 60  # more lines would merge into a grey area and take seconds to draw


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
