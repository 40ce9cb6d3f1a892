"""Rank correlations of maps as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.evaluations.attribution.ways import Way
from pipelines.report.drawing import LIGHT, WIDTH, Theme, canvas, to_png
from pipelines.report.outcomes import Mean

_ROW, _MARGIN = 0.30, 1.5  # inches


def likeness_matrix(means: Mapping[str, Mapping[Way, Mean]], ways: Sequence[Way], *, theme: Theme = LIGHT) -> bytes:
    """A line of points for every condition, one point with its 95 % interval for each map; controls are grey."""
    figure, axes = canvas(theme, height=_MARGIN + _ROW * len(ways))
    markers = "osD^vP*"
    for number, (name, row) in enumerate(means.items()):
        shift = 0.5 * ((number + 0.5) / len(means) - 0.5)
        axes.plot([], [], linestyle="none", marker=markers[number % len(markers)], color=theme.accent, label=name)
        for line, way in enumerate(ways):
            mean = row.get(way)
            if mean is None:
                continue
            colour = theme.control if way.control else theme.accent
            axes.plot(
                mean.value, line + shift, linestyle="none", marker=markers[number % len(markers)], markersize=4.5,
                color=colour,
            )  # fmt: skip
            if mean.low is not None and mean.high is not None:
                axes.plot((mean.low, mean.high), (line + shift,) * 2, color=colour, linewidth=1)
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set(xlim=(-1.05, 1.05), ylim=(len(ways) - 0.4, -0.6), xlabel="rank correlation with the map of the image")
    axes.set_yticks(range(len(ways)), [way.title for way in ways], fontsize=8)
    axes.tick_params(axis="y", length=0)
    figure.legend(frameon=False, fontsize=8, labelcolor=theme.ink, loc="outside upper left", ncols=3)
    figure.set_figwidth(1.5 * WIDTH)
    return to_png(figure, theme)
