"""Predictions unchanged by corruption and severity as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.report.drawing import LIGHT, WIDTH, Theme, canvas, to_png

_ROW, _MARGIN = 0.3, 0.8  # inches
_DARK = 0.5  # shares below are written in white


def agreement_map(
    shares: Sequence[Sequence[float]], names: Sequence[str], severities: Sequence[int], *, theme: Theme = LIGHT
) -> bytes:
    """A cell for each corruption (row) and severity (column), its share written in per cent."""
    figure, axes = canvas(theme, height=_MARGIN + _ROW * len(names))
    axes.imshow(np.asarray(shares), cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            colour = "white" if share < _DARK else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(severities)), [str(each) for each in severities])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("severity; per cent of predictions unchanged")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.set_figwidth(1.2 * WIDTH)
    return to_png(figure, theme)
