"""Robust accuracy over ε as a figure."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.ticker import PercentFormatter

from pipelines.report.drawing import LIGHT, Theme, canvas, to_png
from pipelines.report.outcomes import Share


def robust_curve(curves: Mapping[str, Mapping[float, Share]], unit: str, *, theme: Theme = LIGHT) -> bytes:
    """Share taken for their label over ε, with 95 % intervals; the first curve is the attack's, others are grey."""
    figure, axes = canvas(theme)
    for number, (name, points) in enumerate(curves.items()):
        ends = [(each.value - (each.low or 0), (1 if each.high is None else each.high) - each.value)
                for each in points.values()]  # fmt: skip
        axes.errorbar(
            list(points), [each.value for each in points.values()], yerr=list(zip(*ends, strict=True)), label=name,
            marker="o", markersize=4, capsize=3, linestyle="--" if number else "-",
            color=theme.control if number else theme.accent,
        )  # fmt: skip
    axes.set(ylim=(-0.03, 1.03), xlabel=unit, ylabel="taken for their label")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink)
    return to_png(figure, theme)
