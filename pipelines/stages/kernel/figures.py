"""The spectrum of the patch embedding as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import LogLocator

from pipelines.report.drawing import LIGHT, Theme, canvas, to_png


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
